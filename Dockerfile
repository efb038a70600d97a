# Two stages: the second has no compiler, no pip cache and no source tree.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
RUN python -m venv /opt/stapleproxy && /opt/stapleproxy/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent stapleproxy \
    && install -d -o stapleproxy -g stapleproxy -m 0700 /var/lib/stapleproxy
COPY --from=build /opt/stapleproxy /opt/stapleproxy
ENV PATH=/opt/stapleproxy/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER stapleproxy
# For stapling.cache = "shmcb:/var/lib/stapleproxy/staples": what is stapled survives a new container.
VOLUME /var/lib/stapleproxy
EXPOSE 8443
STOPSIGNAL SIGTERM
ENTRYPOINT ["stapleproxy"]
CMD ["run", "/etc/stapleproxy/stapleproxy.toml"]

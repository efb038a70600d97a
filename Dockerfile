# The proxy without compiler, pip or sources, for a user who is nobody else, on a root file system that may be read-only:
# docker run --read-only --tmpfs /tmp --tmpfs /run/stapleproxy:uid=10001,mode=0700 … as config/compose/compose.yaml has it.
FROM python:3.13-slim-trixie AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
# The environment gets everything compiled, since nobody can write to it later.
RUN python -m venv /opt/stapleproxy \
    && /opt/stapleproxy/bin/pip install --no-cache-dir '.[redis]' \
    && /opt/stapleproxy/bin/pip uninstall --yes pip

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="stapleproxy" \
      org.opencontainers.image.description="A TLS front for Python backends that staples OCSP responses" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number that stays the same, for who must give it the key: chown 10001 key.pem
RUN groupadd --system --gid 10001 stapleproxy \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin stapleproxy \
    && install -d -o stapleproxy -g stapleproxy -m 0700 /var/lib/stapleproxy /run/stapleproxy
COPY --from=build /opt/stapleproxy /opt/stapleproxy
ENV PATH=/opt/stapleproxy/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# By number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 10001:10001
# For stapling.cache = "shmcb:/var/lib/stapleproxy/staples": what is stapled survives a new container.
VOLUME /var/lib/stapleproxy
EXPOSE 8443
STOPSIGNAL SIGTERM
# Asks the admin socket that the configuration names. 3 is healthy too: it serves, and a certificate needs attention,
# which no new container would mend. The first fetches may delay the start by stapling.warmup_timeout_s.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "stapleproxy status --limit=1 || [ $? -eq 3 ]"]
ENTRYPOINT ["stapleproxy"]
CMD ["run", "/etc/stapleproxy/stapleproxy.toml"]

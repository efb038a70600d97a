"""How Apache's mod_ssl staples: the settings that its directives have, with its defaults. For `stapling.profile`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.settings.base import Model
from proxy.settings.values import Flag, HttpUrl, Whole

Profile = Literal["prefetch", "httpd-2.4", "httpd-trunk"]

_MAX_S = 2_147_483_647
"""Apache reads these with atoi, which has no more."""

Duration = Annotated[Whole, Field(ge=0, le=_MAX_S)]


class HttpdStapling(Model):
    """What the profiles httpd-2.4 and httpd-trunk go by, and prefetch does not look at."""

    responder_timeout_s: Duration = Field(
        10, description="SSLStaplingResponderTimeout: for each connect, send and read by itself; 0: always fails"
    )
    response_time_skew_s: Duration = Field(
        300, description="SSLStaplingResponseTimeSkew: for thisUpdate, and for nextUpdate too"
    )
    response_max_age_s: Duration | None = Field(
        None, description="SSLStaplingResponseMaxAge: a response is too old so long after thisUpdate; unset: never"
    )
    standard_cache_timeout_s: Duration = Field(
        3600, description="SSLStaplingStandardCacheTimeout: how long a response is kept"
    )
    error_cache_timeout_s: Duration = Field(
        600, description="SSLStaplingErrorCacheTimeout: how long one that is no good is kept"
    )
    return_responder_errors: Flag = Field(
        True, description="SSLStaplingReturnResponderErrors: staple also what is no good"
    )
    fake_try_later: Flag = Field(
        True, description="SSLStaplingFakeTryLater: staple a made-up tryLater when the responder does not answer"
    )
    force_url: str | None = Field(
        None, description="SSLStaplingForceURL: asked instead of the certificate's responder; not looked at before"
    )
    http_proxy: HttpUrl | None = Field(None, description="SSLOCSPProxyURL: the HTTP proxy towards responders")


class SiteHttpdStapling(Model):
    """What a site has otherwise than [stapling.httpd], field by field; unset: as there."""

    responder_timeout_s: Duration | None = Field(None, description="see [stapling.httpd]")
    response_time_skew_s: Duration | None = Field(None, description="see [stapling.httpd]")
    response_max_age_s: Duration | None = Field(None, description="see [stapling.httpd]")
    standard_cache_timeout_s: Duration | None = Field(None, description="see [stapling.httpd]")
    error_cache_timeout_s: Duration | None = Field(None, description="see [stapling.httpd]")
    return_responder_errors: Flag | None = Field(None, description="see [stapling.httpd]")
    fake_try_later: Flag | None = Field(None, description="see [stapling.httpd]")
    force_url: str | None = Field(None, description="see [stapling.httpd]")
    http_proxy: HttpUrl | None = Field(None, description="see [stapling.httpd]")

    def over(self, all_sites: HttpdStapling) -> HttpdStapling:
        """Give a site's own values, and those of all sites where it has none."""
        return all_sites.model_copy(update=self.model_dump(exclude_none=True))

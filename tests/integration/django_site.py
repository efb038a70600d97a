"""A Django project in one file, set up as its documentation says for a proxy that terminates TLS."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

DEBUG = False
SECRET_KEY = "of no use to anybody"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
WSGI_APPLICATION = f"{__name__}.application"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
USE_X_FORWARDED_HOST = True


def _seen(request):
    return JsonResponse(
        {
            "method": request.method,
            "url": request.build_absolute_uri(),
            "remote": request.META["REMOTE_ADDR"],
            "headers": list(request.headers.items()),
            "body": request.read().decode(),
        }
    )


def _pieces(_request):
    return StreamingHttpResponse((b"piece %d\n" % number for number in range(1000)), content_type="text/plain")


def _cookies(_request):
    response = HttpResponse("set")
    for name in ("a", "b", "c"):
        response.set_cookie(name, name * 3, secure=True, httponly=True)
    return response


def _status(_request, code):
    return HttpResponse(status=code, headers={"ETag": '"x"'})


urlpatterns = [
    path("seen", _seen),
    path("pieces", _pieces),
    path("cookies", _cookies),
    path("status/<int:code>", _status),
]


def __getattr__(name):
    """Make `application` when it is asked for: this module is its settings, and must be whole before."""
    if name != "application":
        raise AttributeError(name)
    return get_wsgi_application()

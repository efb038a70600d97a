"""A TLS front that staples OCSP responses, and does it right when the responder does not."""

__version__ = "0.1.0"

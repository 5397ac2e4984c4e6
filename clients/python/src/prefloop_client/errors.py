"""What can go wrong. The message of an `ApiError` is the server's own sentence."""

from __future__ import annotations


class PrefloopError(Exception):
    """Everything this client raises."""


class ConnectionFailed(PrefloopError):
    """The server could not be reached, or the connection broke; asking again has not helped."""


class ImportStopped(PrefloopError):
    """A worker could not read a file on; the message is the import's `failure`."""


class ExportStopped(PrefloopError):
    """A worker could not make a file of answers; the message is the file's `failure`."""


class ApiError(PrefloopError):
    """The server refused."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class BadRequest(ApiError):
    """400: something in the request is wrong."""


class NotSignedIn(ApiError):
    """401: the token is unknown, expired or revoked."""


class Forbidden(ApiError):
    """403: you may look, but not do this."""


class NotFound(ApiError):
    """404: it does not exist, or not for you."""


class Conflict(ApiError):
    """409: not now, as things are."""


class TooManyRequests(ApiError):
    """429."""


class ServerError(ApiError):
    """5xx: the server's fault."""


BY_STATUS = {400: BadRequest, 401: NotSignedIn, 403: Forbidden, 404: NotFound, 409: Conflict, 429: TooManyRequests}


def error_of(status: int, detail: str) -> ApiError:
    """The error for a status."""
    return (ServerError if status >= 500 else BY_STATUS.get(status, ApiError))(status, detail)

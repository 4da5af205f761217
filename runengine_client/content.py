"""Fetches the bytes of an artifact over HTTP; the only thing of the client that is not gRPC."""

import json
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from anyio import to_thread

from runengine_client import errors
from runengine_client.connection import is_loopback
from runengine_client.errors import InternalError, InvalidArgumentError, RunEngineError, UnavailableError

URL_DEFAULT = "http://127.0.0.1:3001"
SILENCE_S_MAX = 30.0
CHUNK_BYTES = 256 * 1024
_ERROR_BYTES_MAX = 64 * 1024
_KINDS: Mapping[int, type[RunEngineError]] = {
    400: errors.InvalidArgumentError,
    401: errors.UnauthenticatedError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.FailedPreconditionError,
    410: errors.NotFoundError,
    416: errors.OutOfRangeError,
    429: errors.ResourceExhaustedError,
    501: errors.UnimplementedError,
    502: errors.UnavailableError,
    503: errors.UnavailableError,
    504: errors.UnavailableError,
}


async def copy_content(url: str, file: IO[bytes], *, token: str | None, allow_insecure_token: bool = False) -> int:
    """The resource's bytes are in the file; returns how many.

    Raises:
        InvalidArgumentError: not an http(s) URL, or the token would travel unencrypted (INSECURE_TOKEN).
        RunEngineError: the server's refusal, as over gRPC.
        UnavailableError: no answer, or one that ends in the middle.
        OSError: the file cannot be written.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgumentError("USAGE", f"{url} is no HTTP address; write http://host:port")
    if token and parts.scheme == "http" and not allow_insecure_token and not is_loopback(parts.netloc):
        raise InvalidArgumentError("INSECURE_TOKEN", f"A token would travel unencrypted to {parts.netloc}. Use https.")
    request = Request(url, headers={"Accept": "*/*"})
    if token:
        # Unredirected: where the server sends us on, to an object store, is none of the token's business.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return await to_thread.run_sync(_copy, request, file, abandon_on_cancel=True)


def _copy(request: Request, file: IO[bytes]) -> int:
    response = _answer(request)
    copied = 0
    with response:
        announced = response.headers.get("Content-Length")
        while chunk := _read(response):
            file.write(chunk)
            copied += len(chunk)
    if announced is not None and copied != int(announced):
        raise UnavailableError("UNAVAILABLE", f"the answer ended after {copied} of {announced} bytes")
    return copied


def _answer(request: Request) -> HTTPResponse:
    try:
        response: HTTPResponse = urlopen(request, timeout=SILENCE_S_MAX)
    except HTTPError as error:
        with error:
            raise _refusal(error.code, error.read(_ERROR_BYTES_MAX)) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError("UNAVAILABLE", f"no answer from {urlsplit(request.full_url).netloc}: {reason}") from None
    return response


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise UnavailableError("UNAVAILABLE", f"the answer broke off: {error}") from None


def _refusal(status: int, body: bytes) -> RunEngineError:
    kind = _KINDS.get(status, InternalError)
    try:
        told = json.loads(body)["error"]
        facts = {key: value for key, value in told.get("details", {}).items() if isinstance(value, str)}
        return kind(str(told["code"]), str(told["message"]), metadata=facts, is_from_server=True)
    except (ValueError, LookupError, TypeError, AttributeError):
        return kind(f"HTTP_{status}", f"the server answered with HTTP status {status}")

"""What goes wrong behind a URL, told in one line: credentials, rights, the bucket, the network, a missing package.

Client libraries have exceptions of their own that are no `OSError`; they are known by their names, so that none of
them is imported here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nemo_runspec.errors import RunspecError, StoreError

_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "TokenRetrievalError",
    }
)
_NO_ANSWER = frozenset({"ConnectionError", "HTTPClientError", "ClientConnectionError", "TimeoutError"})
# What s3fs makes of HTTP 409, 500 and 503.
_BUSY = frozenset({errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO)})
ANOTHER = "or set NEMOTRON_STORE to another store"


@contextmanager
def told(location: str, doing: str) -> Iterator[None]:
    """Turn what any client library raises in the block into a `StoreError`; a missing file stays a missing file."""
    try:
        yield
    except (RunspecError, FileExistsError):
        raise
    except FileNotFoundError as error:
        if code_of(error) == "NoSuchBucket":
            raise StoreError(f"artifact store {location}: {_describe(error, location, doing)}") from error
        raise
    except Exception as error:  # the boundary to whichever library fsspec found for the scheme
        raise StoreError(f"artifact store {location}: {_describe(error, location, doing)}") from error


def _describe(error: Exception, location: str, doing: str) -> str:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    names = _names(error)
    if code_of(error) == "NoSuchBucket":
        bucket = location.partition("://")[2].partition("/")[0]
        return f"there is no bucket {bucket!r}; create it, {ANOTHER}"
    if names & _NO_CREDENTIALS:
        return f"no credentials ({said}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, PermissionError):
        return (
            f"{doing} was denied ({said}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may list, "
            f"read, write and delete there, {ANOTHER}"
        )
    if names & _NO_ANSWER:
        return f"no answer while {doing} ({said}); check {_endpoint(location)}the network, {ANOTHER}"
    if isinstance(error, ImportError):
        return f"{said}; install what it needs, for s3:// pip install 'nemotron-flows[s3]', {ANOTHER}"
    return f"{doing} failed: {said}; check its URL, the credentials and the network, {ANOTHER}"


def _endpoint(location: str) -> str:
    if not location.startswith("s3"):
        return ""
    given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f"AWS_ENDPOINT_URL = {given} and " if given else "AWS_ENDPOINT_URL, which is not set, and "


def code_of(error: Exception) -> str | None:
    """The code that an S3 server gave for it, as `NoSuchBucket`; None where there is none."""
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def says_exists(error: Exception) -> bool:
    """Whether an exclusive creation was refused because there is such a file."""
    # s3fs knows the answer of AWS; other servers do not name the condition that failed.
    return isinstance(error, FileExistsError) or code_of(error) in ("PreconditionFailed", "412")


def may_pass(error: Exception) -> bool:
    """Whether trying again may help, and whether what failed may have been done all the same."""
    if code_of(error) == "ConditionalRequestConflict":  # two created the file at the same moment
        return True
    return bool(_names(error) & _NO_ANSWER) or (isinstance(error, OSError) and error.errno in _BUSY)


def _names(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}

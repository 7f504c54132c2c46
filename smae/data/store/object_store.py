"""Files in an object store (``s3://``, ``gs://``, ``az://``), by obstore; imported only if used.

Credentials come from the environment and are never shown: messages name the object and the kind of
failure, not the answer of the service. A write is atomic and durable when it returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from smae.errors import ConfigError, DataError, EnvironmentFault

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

DAMAGED = "the store is damaged, copy it or prepare it again"
SCHEMES = ("s3", "gs", "az")
_RETRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
_SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
}


class ObjectFileStore:
    """A ``FileStore`` of the objects whose names begin with a URL's path.

    Pickled as its URL: each process finds credentials in its own environment.

    Args:
        url: ``s3://bucket/name``, ``gs://bucket/name`` or ``az://container/name``.
        store: obstore's client, used instead of the service at the URL; not picklable then.

    Raises:
        ConfigError: not such a URL, or settings in the environment that cannot be used.
    """

    def __init__(self, url: str, *, store: Client | None = None) -> None:
        self.name = url.rstrip("/")
        self._given = store
        self._client: Any = store or _connect(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        assert self._given is None, "a given client cannot be pickled"
        return ObjectFileStore, (self.name,)

    def read(self, key: str, *, limit: int) -> bytes:
        with self._reading(key):
            answer = obstore.get(self._client, key)
            if answer.meta["size"] <= limit:
                return bytes(answer.bytes())
        raise DataError(f"{self.name}/{key}: more than {limit} bytes: {DAMAGED}")

    def read_part(self, key: str, start: int, length: int) -> bytes:
        with self._reading(key):
            try:
                return bytes(obstore.get_range(self._client, key, start=start, length=length))
            except (BaseError, ValueError):
                # Services refuse an empty range, or one beyond the end, each with another error.
                size = obstore.head(self._client, key)["size"]
                if start >= size or length == 0:
                    return b""
                raise

    def write(self, key: str, *pieces: bytes, durable: bool = True) -> None:
        data = b"".join(pieces)
        with self._writing(key, len(data)):
            # One request: a killed multipart upload leaves invisible parts, which cost money.
            obstore.put(self._client, key, data, use_multipart=False)

    def fsync(self, key: str) -> None:
        pass

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless it exists; return whether it now holds ``data``."""
        with self._writing(key, len(data)):
            try:
                obstore.put(self._client, key, data, mode="create", use_multipart=False)
                return True
            except AlreadyExistsError:
                # A retry after a lost answer meets the object that the first request made.
                return bytes(obstore.get(self._client, key).bytes()) == data

    def move(self, key: str, to: str) -> None:
        # A copy and a removal: a move that is cut off leaves both objects.
        with self._writing(to):
            obstore.rename(self._client, key, to)

    def remove(self, key: str) -> None:
        with self._writing(key):
            try:
                obstore.delete(self._client, key)
            except FileNotFoundError:
                return

    def sizes(self) -> dict[str, int]:
        with self._reading(""):
            listed = [meta for page in obstore.list(self._client) for meta in page]
        return dict(sorted((meta["path"], meta["size"]) for meta in listed))

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(f"{self.name}/{key}: no such object: {DAMAGED}") from error
        except BaseError as error:
            cause = self._cause(error)
            raise EnvironmentFault(f"cannot read {self.name}/{key}: {cause}") from error

    @contextmanager
    def _writing(self, key: str, size: int = 0) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            amount = f" ({size:,} bytes)" if size else ""
            raise EnvironmentFault(
                f"cannot write {self.name}/{key}{amount}: {self._cause(error)}; nothing that was "
                "finished is lost: put it right and run the same command with --resume"
            ) from error

    def _cause(self, error: Exception) -> str:
        """Return the cause and the settings to check; the service's own text may hold a key."""
        text, scheme = str(error), urlsplit(self.name).scheme
        settings = f"look at {_SETTINGS.get(scheme, 'the settings')} in the environment"
        code = re.search(r"<Code>(\w{1,40})</Code>", text)
        status = re.search(r"status code: ([1-5]\d\d(?: [A-Z][A-Za-z]*)*)", text)
        if "169.254.169.254" in text or "metadata.google.internal" in text:
            return f"no credentials were found: {settings}"
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return f"no permission{f' ({code[1]})' if code else ''}: {settings}"
        if code or status:
            answer = " ".join(match[1] for match in (status, code) if match)
            return f"the object store answered {answer}: does the bucket exist? Else {settings}"
        if "error sending request" in text or "timed out" in text:
            return f"the object store does not answer: {settings}"
        return f"the object store failed ({type(error).__name__}): {settings}"


def _connect(url: str) -> Client:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The URL is not repeated in the message: it may hold a key.
        raise ConfigError(f"{parts.scheme}://...: a URL with a key or options in it: give them in the environment")
    if parts.scheme not in SCHEMES or not parts.netloc or not parts.path.strip("/"):
        raise ConfigError(f"{url}: expected s3://BUCKET/NAME, gs://BUCKET/NAME or az://CONTAINER/NAME")
    try:
        # Client options are not set here: they would override those of the environment.
        return from_url(url, retry_config=_RETRY)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{url}: the settings in the environment cannot be used ({type(error).__name__}): look "
            f"at {_SETTINGS[parts.scheme]}"
        ) from error

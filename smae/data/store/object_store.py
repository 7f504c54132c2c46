"""Files in an object store (``s3://``, ``gs://``, ``az://``), by obstore; imported only when needed.

Credentials come from the environment and are never shown: messages name the object and the kind of
failure, not the text of the service. Writes are atomic, and durable once they return.
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
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
_RETRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
_SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
}
_DAMAGED = "the store is damaged, copy it or prepare it again"


class ObjectFileStore:
    """A ``FileStore`` of the objects whose names begin with a URL's path.

    It is pickled as its URL; each process finds credentials in its own environment. Reading raises
    ``EnvironmentFault`` too: no connection, no permission.

    Args:
        url: ``s3://bucket/name``, ``gs://bucket/name`` or ``az://container/name``.
        store: replaces the service that the URL names; the object can then not be pickled.

    Raises:
        ConfigError: another kind of URL, or unusable settings in the environment.
    """

    def __init__(self, url: str, *, store: ObjectStore | None = None) -> None:
        self.name = url.rstrip("/")
        self._given = store
        self._store: Any = store or _open(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        assert self._given is None, "a given store cannot be pickled"
        return ObjectFileStore, (self.name,)

    def read(self, key: str, *, limit: int) -> bytes:
        with self._reading(key):
            found = obstore.get(self._store, key)
            if found.meta["size"] <= limit:
                return bytes(found.bytes())
        raise DataError(f"{self.name}/{key}: more than {limit} bytes: {_DAMAGED}")

    def read_part(self, key: str, start: int, length: int) -> bytes:
        with self._reading(key):
            try:
                return bytes(obstore.get_range(self._store, key, start=start, length=length))
            except (BaseError, ValueError):
                # A part that is empty or begins beyond the end is an error, worded by each service.
                size = obstore.head(self._store, key)["size"]
                if start >= size or length == 0:
                    return b""
                raise

    def write(self, key: str, *pieces: bytes, durable: bool = True) -> None:
        data = b"".join(pieces)
        with self._writing(key, len(data)):
            # In one request: a killed writer leaves no invisible parts behind, which cost money.
            obstore.put(self._store, key, data, use_multipart=False)

    def fsync(self, key: str) -> None:
        """Do nothing: an object survives once its write returns."""

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether the object holds ``data``.

        Raises:
            EnvironmentFault: no connection, no permission, or a service that cannot do this.
        """
        with self._writing(key, len(data)):
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
                return True
            except AlreadyExistsError:
                # A request whose answer was lost is repeated, and then finds its own object.
                return bytes(obstore.get(self._store, key).bytes()) == data

    def move(self, key: str, to: str) -> None:
        with self._writing(to):
            obstore.rename(self._store, key, to)

    def remove(self, key: str) -> None:
        with self._writing(key):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def sizes(self) -> dict[str, int]:
        with self._reading(""):
            found = {meta["path"]: meta["size"] for page in obstore.list(self._store) for meta in page}
        return dict(sorted(found.items()))

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(f"{self.name}/{key}: no such object: {_DAMAGED}") from error
        except BaseError as error:
            raise EnvironmentFault(f"cannot read {self.name}/{key}: {self._cause(error)}") from error

    @contextmanager
    def _writing(self, key: str, size: int = 0) -> Iterator[None]:
        what = f"{self.name}/{key} ({size:,} bytes)" if size else f"{self.name}/{key}"
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise EnvironmentFault(
                f"cannot write {what}: {self._cause(error)}; nothing that was finished is lost: put it right and run "
                "the same command with --resume"
            ) from error

    def _cause(self, error: Exception) -> str:
        """Return cause and remedy; not the service's own text, which may contain a key."""
        text, scheme = str(error), urlsplit(self.name).scheme
        settings = f"look at {_SETTINGS.get(scheme, 'the settings')} in the environment"
        code = re.search(r"<Code>(\w{1,40})</Code>", text)
        status = re.search(r"status code: ([1-5]\d\d(?: [A-Z][A-Za-z]*)*)", text)
        if "169.254.169.254" in text or "metadata.google.internal" in text:
            return f"no credentials were found: {settings}"
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            detail = f" ({code[1]})" if code else ""
            return f"no permission{detail}: {settings}"
        if code or status:
            answer = " ".join(match[1] for match in (status, code) if match)
            return f"the object store answered {answer}: is the bucket there? {settings[0].upper()}{settings[1:]}"
        if "error sending request" in text or "timed out" in text:
            return f"the object store does not answer: {settings}"
        return f"the object store failed ({type(error).__name__}): {settings}"


def _open(url: str) -> ObjectStore:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The URL is not shown: it may contain a key.
        raise ConfigError(f"{parts.scheme}://...: a URL with a key or options in it: give them in the environment")
    if parts.scheme not in SCHEMES or not parts.netloc or not parts.path.strip("/"):
        raise ConfigError(f"{url}: expected s3://BUCKET/NAME, gs://BUCKET/NAME or az://CONTAINER/NAME")
    try:
        # No client options here: they would hide those of the environment.
        return from_url(url, retry_config=_RETRY)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{url}: the settings in the environment cannot be used ({type(error).__name__}): look at "
            f"{_SETTINGS[parts.scheme]}"
        ) from error

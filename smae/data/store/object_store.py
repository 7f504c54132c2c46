"""A place in an object store (``s3://``, ``gs://``, ``az://``), by obstore; imported only when asked for.

Credentials come from the environment and are never shown: messages name the object and the kind of the failure, not
what the service said. An object is there whole or not at all, and safe once a write returns; there are no folders.
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


class ObjectPlace:
    """Objects whose names begin with a URL's path; see ``Place``.

    Travels to other processes as its URL; each finds credentials in its own environment.

    Args:
        url: ``s3://bucket/name``, ``gs://bucket/name`` or ``az://container/name``.
        store: what to use in place of the service that the URL names; such a place stays in its process.

    Raises:
        ConfigError: no such URL, or settings in the environment that cannot be used.
    """

    def __init__(self, url: str, *, store: ObjectStore | None = None) -> None:
        self.name = url.rstrip("/")
        self._own = store
        self._store: Any = store or _open(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        assert self._own is None, "a place with a store of its own stays in its process"
        return ObjectPlace, (self.name,)

    def read(self, key: str, *, limit: int) -> bytes:
        """See ``Place.read``.

        Raises:
            DataError: no such object, or more than ``limit`` bytes.
            EnvironmentFault: no connection, no permission.
        """
        with self._reading(key):
            found = obstore.get(self._store, key)
            if found.meta["size"] <= limit:
                return bytes(found.bytes())
        raise DataError(f"{self.name}/{key}: more than {limit} bytes: {_DAMAGED}")

    def read_part(self, key: str, start: int, length: int) -> bytes:
        """See ``Place.read_part``; raises as ``read`` does."""
        with self._reading(key):
            try:
                return bytes(obstore.get_range(self._store, key, start=start, length=length))
            except (BaseError, ValueError):
                # A part that begins at or beyond the end, or is empty, is refused: by each service in its own words.
                size = obstore.head(self._store, key)["size"]
                if start >= size or length == 0:
                    return b""
                raise

    def write(self, key: str, *pieces: bytes, safe: bool = True) -> None:
        """See ``Place.write``; always safe."""
        data = b"".join(pieces)
        with self._writing(key, len(data)):
            # In one request: a writer that is killed leaves no parts behind, which nobody sees and somebody pays for.
            obstore.put(self._store, key, data, use_multipart=False)

    def settle(self, key: str) -> None:
        """See ``Place.settle``; nothing to do."""

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether it is the one that was to be written.

        Raises:
            EnvironmentFault: no connection, no permission, or a service that cannot do this.
        """
        with self._writing(key, len(data)):
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
                return True
            except AlreadyExistsError:
                # A request whose answer was lost is sent again, and then finds the object that it made itself.
                return bytes(obstore.get(self._store, key).bytes()) == data

    def move(self, key: str, to: str) -> None:
        """See ``Place.move``; a move that is cut off leaves both objects."""
        with self._writing(to):
            obstore.rename(self._store, key, to)

    def remove(self, key: str) -> None:
        """See ``Place.remove``."""
        with self._writing(key):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def sizes(self) -> dict[str, int]:
        """See ``Place.sizes``.

        Raises:
            EnvironmentFault: no connection, no permission.
        """
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
        """Return what went wrong, and what to look at; never the service's own words, which can hold a key's name."""
        text, scheme = str(error), urlsplit(self.name).scheme
        settings = f"look at {_SETTINGS.get(scheme, 'the settings')} in the environment"
        code = re.search(r"<Code>(\w{1,40})</Code>", text)
        status = re.search(r"status code: ([1-5]\d\d(?: [A-Z][A-Za-z]*)*)", text)
        if "169.254.169.254" in text or "metadata.google.internal" in text:
            return f"no credentials were found: {settings}"
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return f"no permission{f' ({code[1]})' if code else ''}: {settings}"
        if code or status:
            said = " ".join(found[1] for found in (status, code) if found)
            return f"the object store answered {said}: is the bucket there? {settings[0].upper()}{settings[1:]}"
        if "error sending request" in text or "timed out" in text:
            return f"the object store does not answer: {settings}"
        return f"the object store failed ({type(error).__name__}): {settings}"


def _open(url: str) -> ObjectStore:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Not shown: what stands there may be a key.
        raise ConfigError(f"{parts.scheme}://...: a URL with a key or options in it: give them in the environment")
    if parts.scheme not in SCHEMES or not parts.netloc or not parts.path.strip("/"):
        raise ConfigError(f"{url}: expected s3://BUCKET/NAME, gs://BUCKET/NAME or az://CONTAINER/NAME")
    try:
        # Options of the client are left alone: given here, they would hide those of the environment.
        return from_url(url, retry_config=_RETRY)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{url}: the settings in the environment cannot be used ({type(error).__name__}): look at "
            f"{_SETTINGS[parts.scheme]}"
        ) from error

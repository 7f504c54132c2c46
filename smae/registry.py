"""One registry class for every family of plug-ins: a table of built-in members, and outside ones by entry point."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar, cast

from smae.errors import ConfigError, UnknownNameError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


@functools.cache
def _declared(path: tuple[str, ...]) -> Any:
    """Return what packages on a search path declare, to ``select`` from (before Python 3.12 no ``EntryPoints``).

    It is read once, since a command asks for a dozen names.
    """
    return entry_points()


class Registry(Generic[T]):
    """Names mapped to objects of one family.

    Args:
        family: singular name, for messages and for the entry-point group (``masking`` -> ``smae.maskings``).
        builtin: the members that come with smae: name -> ``package.module:attribute``.

    A member is imported only when its name is asked for. Outside packages declare an entry point in the group.
    """

    def __init__(self, family: str, builtin: Mapping[str, str] | None = None) -> None:
        self.family = family
        self.group = f"smae.{family}s"
        self._builtin = dict(builtin or {})
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds its object under ``name``; a name taken twice is a ``ConfigError``."""

        def add(member: T) -> T:
            if name in self._builtin or self._members.get(name, member) is not member:
                raise ConfigError(f"{self.family} '{name}' is registered twice: choose another name for yours")
            self._members[name] = member
            return member

        return add

    def names(self) -> list[str]:
        """Return every name, built in, registered or declared by an installed package, sorted."""
        return sorted({*self._builtin, *self._members, *(entry.name for entry in self._entries())})

    def get(self, name: str) -> T:
        """Return the member called ``name``.

        Raises:
            UnknownNameError: no such member; the message lists the names and the nearest one.
            ConfigError: a package declares it, but it cannot be imported, or its name is taken.
        """
        for entry in self._entries().select(name=name):
            # Importing the module may register it by decorator already: the same object again, or a name taken twice.
            self.register(name)(cast(T, self._load(entry)))
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            return cast(T, getattr(importlib.import_module(module), attribute))
        if name not in self._members:
            known = self.names()
            raise UnknownNameError(
                f"unknown {self.family} '{name}': expected one of {', '.join(known)}{nearest(name, known)}"
            )
        return self._members[name]

    def _entries(self) -> EntryPoints:
        entries: EntryPoints = _declared(tuple(sys.path)).select(group=self.group)
        return entries

    def _load(self, entry: EntryPoint) -> object:
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{self.family} '{entry.name}' cannot be loaded from {entry.value}: {error}; "
                "repair or uninstall the package that declares it"
            ) from error

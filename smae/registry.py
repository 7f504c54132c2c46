"""Registries of plug-ins: a table of built-in members, and external ones by entry point."""

from __future__ import annotations

import difflib
import functools
import importlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from smae.errors import ConfigError, UnknownNameError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return "".join(f"; did you mean '{match}'?" for match in close)


@functools.cache
def _entry_points(path: tuple[str, ...]) -> Any:
    """Return the entry points of all packages on a search path; read once a process."""
    # Before Python 3.12 this is no EntryPoints yet, but has ``select`` all the same.
    return entry_points()


def plugins() -> list[EntryPoint]:
    """Return what installed packages declare for any family, by family and name."""
    declared = _entry_points(tuple(sys.path))
    groups = sorted(group for group in declared.groups if group.startswith("smae."))
    return [entry for group in groups for entry in sorted(declared.select(group=group), key=lambda one: one.name)]


def describe(entry: EntryPoint) -> str:
    """Return the family, name and package of a plug-in."""
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
    return f"{entry.group.removeprefix('smae.').removesuffix('s')} '{entry.name}' of {package}"


def plugin_at_fault(error: BaseException) -> str:
    """Return the plug-in in whose code an error arose, with file and line; empty if in none's."""
    frames = traceback.walk_tb(error.__traceback__)
    places = [(str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename, line) for frame, line in frames]
    # A worker process sends its traceback as text, and a syntax error has no frame of its own.
    places += [
        ("", file, int(line)) for file, line in re.findall(r'File "(.+)", line (\d+)', str(error.__cause__ or ""))
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append(("", error.filename, error.lineno or 0))
    for module, file, line in reversed(places):
        names = [module.partition(".")[0]] if module else Path(file).with_suffix("").parts
        found = [entry for entry in plugins() if entry.module.partition(".")[0] in names]
        exact = [entry for entry in found if entry.module == module]
        if found:
            return f"{', '.join(map(describe, exact or found))}: {file}:{line}"
    return ""


class Registry(Generic[T]):
    """Members of one family of plug-ins by name; each is imported when it is first asked for.

    Args:
        family: singular name; external packages use the entry-point group ``smae.<family>s``.
        builtin: name -> ``package.module:attribute`` of the members that come with smae.
    """

    def __init__(self, family: str, builtin: Mapping[str, str] | None = None) -> None:
        self.family = family
        self.group = f"smae.{family}s"
        self._builtin = dict(builtin or {})
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers an object; a name taken twice is a ``ConfigError``."""

        def add(member: T) -> T:
            if name in self._builtin or self._members.get(name, member) is not member:
                raise ConfigError(f"{self.family} '{name}' is registered twice: choose another name for yours")
            self._members[name] = member
            return member

        return add

    def names(self) -> list[str]:
        """Return all names, built in, registered or declared by an installed package, sorted."""
        return sorted({*self._builtin, *self._members, *(entry.name for entry in self._entries())})

    def builtin(self) -> list[str]:
        """Return the names of the members that come with smae."""
        return list(self._builtin)

    def get(self, name: str) -> T:
        """Return the member called ``name``.

        Raises:
            UnknownNameError: no such member; the message lists the names and the nearest one.
            ConfigError: it cannot be imported from its package, or its name is taken.
        """
        for entry in self._entries().select(name=name):
            try:
                member = cast(T, entry.load())
            except (ImportError, AttributeError) as error:
                raise ConfigError(
                    f"{self.family} '{name}' cannot be loaded from {entry.value}: {error}; "
                    "repair or uninstall the package that declares it"
                ) from error
            # If the import registered it by decorator already, it is the same object again.
            self.register(name)(member)
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
        entries: EntryPoints = _entry_points(tuple(sys.path)).select(group=self.group)
        return entries

"""Names of classes: from a text file among the recordings, or NTU RGB+D's for NTU's ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from smae.errors import ConfigError

if TYPE_CHECKING:
    from smae.data.store.store import Store

CLASSES_FILE = "classes.txt"
"""File of class names that prepare reads from the raw folder by default."""
NTU_DATASETS = ("ntu60", "ntu120")

_MAX_BYTES = 2**20
_MAX_NAME = 100
_LINE = re.compile(r"([A-Za-z]*\d+)\s*[,;\t]\s*(.+)")
_NUMBER = re.compile(r"\d+$")
_REMEDY = "give one name a line, or number,name"


@cache
def ntu_actions() -> tuple[str, ...]:
    """Return the names of NTU RGB+D 120's actions, A001 first; the first 60 are NTU RGB+D's."""
    text = (files("smae.data.raw") / "lists" / "ntu_actions.txt").read_text(encoding="ascii")
    return tuple(text.splitlines())


def class_name(dataset: str, id: str, names: Mapping[str, str] | None = None) -> str:
    """Return a class for people: ``A013 tear up paper``, or the id alone if it has no name.

    Args:
        dataset: of the store; without ``names``, ids of ``ntu60`` and ``ntu120`` get NTU's names.
        id: of the class.
        names: names by id, as ``smae prepare --classes`` or a ``classes.txt`` gave them.
    """
    if not names and dataset in NTU_DATASETS:
        names = {f"A{number:03}": name for number, name in enumerate(ntu_actions(), 1)}
    name = (names or {}).get(id)
    return f"{id} {name}" if name else id


def class_names(store: Store, ids: tuple[str, ...] | None = None) -> list[str]:
    """Return the names of a store's classes by label, or of the classes ``ids``."""
    ids = store.classes if ids is None else ids
    return [class_name(store.dataset, id_, store.names) for id_ in ids]


def names_note(store: Store) -> str:
    """Return a remark on class names that were guessed by number; empty if there are none."""
    if store.names or class_names(store) == list(store.classes):
        return ""
    return (
        "Class names are NTU RGB+D's, by number: recordings of other people that are named like NTU's get them too. "
        "smae prepare --classes FILE, or a classes.txt among the recordings, names other actions."
    )


def find_class_file(raw: Path, *, given: Path | None) -> Path | None:
    """Return the file of class names: ``given``, or the raw folder's own if there is one."""
    if given is not None:
        return given
    path = raw / CLASSES_FILE
    return path if path.is_file() else None


def read_class_names(path: Path, ids: Iterable[str]) -> dict[str, str]:
    """Read the names of the classes ``ids`` from a UTF-8 text file.

    A line is ``A013,tear up paper``, ``13,tear up paper``, or the name alone, which then belongs to
    the class with the line's number. The number of a class is the one its id ends in.

    Raises:
        ConfigError: no such file, not text, or two names for one class.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes, which no list of class names has: {_REMEDY}")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: class names cannot be read ({type(error).__name__}): {_REMEDY}") from None
    listed: dict[str, str] = {}
    for number, line in enumerate((line.strip() for line in lines), 1):
        if not line or line.startswith("#"):
            continue
        key, name = str(number), line
        if match := _LINE.fullmatch(line):
            key, name = match[1], match[2].strip()
        if len(name) > _MAX_NAME or not name.isprintable():
            raise ConfigError(
                f"{path}:{number}: expected a name of at most {_MAX_NAME} printable characters: {_REMEDY}"
            )
        if listed.setdefault(_key(key), name) != name:
            message = f"class {key} has the name '{listed[_key(key)]}' already: leave one out"
            raise ConfigError(f"{path}:{number}: {message}")
    found: dict[str, str] = {}
    for id_ in ids:
        for key in (id_, *_NUMBER.findall(id_)):
            if name := listed.get(_key(key), ""):
                found.setdefault(id_, name)
    return found


def load_class_names(raw: Path, ids: tuple[str, ...], *, given: Path | None) -> dict[str, str]:
    """Return the names of a raw folder's classes by id; empty without a file of names.

    Raises:
        ConfigError: see ``read_class_names``; or the file names none of the classes.
    """
    path = find_class_file(raw, given=given)
    if path is None:
        return {}
    names = read_class_names(path, ids)
    if not names:
        raise ConfigError(f"{path}: it names none of the classes that occur, such as {ids[0]}: see --classes")
    return names


def _key(id_: str) -> str:
    """Return an id, a bare number without leading zeros."""
    return str(int(id_)) if id_.isdecimal() else id_

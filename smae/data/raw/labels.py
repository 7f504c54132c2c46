"""Names of a raw folder's classes, in words: read from a text file that lies among the recordings or is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from smae.errors import ConfigError

NAMES_FILE = "classes.txt"
"""What the file is called that prepare takes of itself, in the raw folder."""

_BYTES = 2**20
_LENGTH = 100
_LINE = re.compile(r"([A-Za-z]*\d+)\s*[,;\t]\s*(.+)")
_NUMBER = re.compile(r"\d+$")


def find_names(raw: Path, *, given: Path | None) -> Path | None:
    """Return the file of names: the one that is given, else the raw folder's own, if it has one."""
    own = raw / NAMES_FILE
    return given if given is not None else own if raw.is_dir() and own.is_file() else None


def read_names(path: Path, classes: Iterable[str]) -> dict[str, str]:
    """Return the names of classes, by id.

    A line is ``A013,tear up paper``, ``13,tear up paper``, or the name alone: then the line's number is the class's.
    The number of a class is what its id ends in. Names of classes that do not occur are passed over.

    Args:
        path: UTF-8 text.
        classes: the ids that occur.

    Raises:
        ConfigError: no such file, no text, or two names for one class.
    """
    remedy = "give one name a line, or number,name"
    try:
        if path.stat().st_size > _BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes, which no list of class names has: {remedy}")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: class names cannot be read ({type(error).__name__}): {remedy}") from None
    said: dict[str, str] = {}
    for number, line in enumerate((line.strip() for line in lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        key, name = (match[1], match[2].strip()) if match else (str(number), line)
        if len(name) > _LENGTH or not name.isprintable():
            raise ConfigError(f"{path}:{number}: expected a name of at most {_LENGTH} printable characters: {remedy}")
        if said.setdefault(_plain(key), name) != name:
            raise ConfigError(f"{path}:{number}: class {key} has the name '{said[_plain(key)]}' already: leave one out")
    return _of_classes(said, classes)


def told_names(raw: Path, classes: tuple[str, ...], *, given: Path | None) -> dict[str, str]:
    """Return the names that were told of a raw folder's classes, by id; none where nobody told any.

    Raises:
        ConfigError: see ``read_names``; or the file names none of the classes.
    """
    path = find_names(raw, given=given)
    if path is None:
        return {}
    names = read_names(path, classes)
    if not names:
        raise ConfigError(f"{path}: it names none of the classes that occur, such as {classes[0]}: see --classes")
    return names


def _plain(key: str) -> str:
    """Return an id as it is, a bare number without leading zeros."""
    return str(int(key)) if key.isdecimal() else key


def _of_classes(said: Mapping[str, str], classes: Iterable[str]) -> dict[str, str]:
    found = {}
    for one in classes:
        number = _NUMBER.search(one)
        name = said.get(_plain(one)) or (said.get(_plain(number[0])) if number else None)
        if name is not None:
            found[one] = name
    return found

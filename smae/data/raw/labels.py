"""Names of classes: from a text file among the recordings, or NTU RGB+D's for NTU's ids."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from smae.errors import ConfigError

if TYPE_CHECKING:
    from smae.data.store import Store

logger = logging.getLogger(__name__)

CLASSES_FILE = "classes.txt"
"""File of class names that prepare reads from the raw folder by default."""
NTU_DATASETS = ("ntu60", "ntu120")

_MAX_BYTES = 2**20
_MAX_NAME = 100
_LINE = re.compile(r"([A-Za-z]*\d+)\s*[,;:\t]\s*(.+)")
_SPACED = re.compile(r"([A-Za-z]*\d+)(?:\s*[,;:\t]\s*|[.)]?\s+)(.+)")
"""The same with ``1 wave``, ``1. wave`` and ``1) wave``, which count where every line is so."""
_HEAD = re.compile(r"(id|label|class|number|index|action)\w*\s*[,;:\t]\s*(name|action|class|label)\w*", re.I)
_ZEROS = re.compile(r"^([A-Za-z]*)0+(?=\d+$)")
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


def read_text(path: Path, *, what: str, limit: int) -> str:
    """Return a text file in UTF-8, or in UTF-16 with a byte order mark; without the mark.

    Args:
        path: the file.
        what: is read from it, for messages.
        limit: bytes; a longer file is a mistake or an attack.

    Raises:
        ConfigError: unreadable, too long, or in another encoding.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {what} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise ConfigError(f"{path}: more than {limit:,} bytes, which no file of {what} has")
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: {what} cannot be read: not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x}): "
            "it is in another encoding, such as GBK, Shift JIS or Latin-1: save it as UTF-8"
        ) from error


def read_class_names(path: Path, ids: Iterable[str]) -> dict[str, str]:
    """Read the names of the classes ``ids`` from a text file.

    A line is ``A013,tear up paper``, ``13,tear up paper``, or the name alone, which then belongs to
    the class with the name's number in the list, from 1. Blank lines and those that begin with
    ``#`` do not count. The number of a class is the one its id ends in; numbers from 0 are
    recognised by the classes that they name.

    Raises:
        ConfigError: no text file, two names for one class, or numbers that may count from 0 or 1.
    """
    ids, listed = list(ids), _read_lines(path)
    if any(key.isdecimal() and int(key) == 0 for key in listed):
        listed = _from_one(path, listed, ids)
    found: dict[str, str] = {}
    for id_ in ids:
        for key in (id_, *_NUMBER.findall(id_)):
            if name := listed.get(_key(key), ""):
                found.setdefault(id_, name)
    return found


def _read_lines(path: Path) -> dict[str, str]:
    """Return names by id or number, as the lines of a file give them."""
    text = read_text(path, what="class names", limit=_MAX_BYTES)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if lines and _HEAD.fullmatch(lines[0][1]):
        del lines[0]
    pattern = _LINE
    if all(_SPACED.fullmatch(line) for _, line in lines):
        pattern = _SPACED
    matches = [pattern.fullmatch(line) for _, line in lines]
    listed: dict[str, str] = {}
    for position, ((number, line), match) in enumerate(zip(lines, matches, strict=True), 1):
        if match is None and any(matches):
            raise ConfigError(f"{path}:{number}: a name without a number, where other lines have one: {_REMEDY}")
        key, name = (match[1], match[2].strip()) if match else (str(position), line)
        if len(name) > _MAX_NAME or not name.isprintable():
            raise ConfigError(
                f"{path}:{number}: expected a name of at most {_MAX_NAME} printable characters: {_REMEDY}"
            )
        if listed.setdefault(_key(key), name) != name:
            message = f"class {key} has the name '{listed[_key(key)]}' already: leave one out"
            raise ConfigError(f"{path}:{number}: {message}")
    return listed


def _from_one(path: Path, listed: dict[str, str], ids: list[str]) -> dict[str, str]:
    """Return names, numbered from 0, by the numbers of the classes, mostly from 1."""
    numbers = {int(digits) for id_ in ids for digits in _NUMBER.findall(id_)}
    if 0 in numbers or not numbers:
        return listed
    logger.info("%s: its numbers begin at 0 and those of the classes do not: 0 is taken for class 1", path)
    return {str(int(key) + 1) if key.isdecimal() else key: name for key, name in listed.items()}


def load_class_names(raw: Path, ids: tuple[str, ...], *, given: Path | None) -> dict[str, str]:
    """Return the names of a raw folder's classes by id; empty without a file of names."""
    path = find_class_file(raw, given=given)
    if path is None:
        return {}
    names = read_class_names(path, ids)
    if not names:
        raise ConfigError(f"{path}: it names none of the classes that occur, such as {ids[0]}: see --classes")
    unnamed = [id_ for id_ in ids if id_ not in names]
    if unnamed:
        shown = ", ".join(unnamed[:5]) + ", ..." * (len(unnamed) > 5)
        logger.info("%s: %d of %d classes have no name there: %s", path, len(unnamed), len(ids), shown)
    return names


def _key(id_: str) -> str:
    """Return an id whose number has no leading zeros: ``A1`` for ``A001``."""
    return _ZEROS.sub(r"\1", id_)

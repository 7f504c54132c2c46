"""Splits of one's own: by groups, by a drawn share, or from a file of lists."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.atomic_io import locked
from smae.data.raw.labels import read_text
from smae.data.store import Store, open_store, splits
from smae.data.store.clips import FACTS, ClipTable
from smae.data.store.format import MAX_JSON_BYTES
from smae.data.store.splits import Roles, Split
from smae.errors import ConfigError, DataError
from smae.registry import nearest
from smae.rng import Noise

_UNNAMED = re.compile(rf"^{splits.DEFAULT}(\d*)$")
GROUPS = FACTS
"""What parts can be chosen by: the numbers that a clip's name or data set gives."""


def split(
    store: Store | Path | str | None = None,
    *,
    name: str = "own",
    by: str | None = None,
    test: Sequence[int] = (),
    val: Sequence[int] = (),
    share: float | None = None,
    val_share: float = 0.0,
    seed: int = 0,
    file: Path | str | None = None,
    overwrite: bool = False,
) -> Split:
    """Give a store train and test parts of its own, and a validation part if asked for.

    Exactly one of ``test``, ``share`` and ``file`` says which clips are tested on; all others
    train. The store's files, fingerprint and other protocols stay as they are.

    Args:
        store: the store; by default the one in the current folder.
        name: what the split is called: ``smae eval --protocol NAME``.
        by: ``subject``, ``camera``, ``setup`` or ``replication``: whole groups go to a part.
        test, val: numbers of the groups that test and validate.
        share, val_share: of the groups, drawn by the seed; without ``by`` of each class's clips.
        seed: of the draw.
        file: lists of clips by part, see ``read_lists``.
        overwrite: replace a split of this name that was made before.

    Raises:
        ConfigError: arguments that do not go together, or a name that is taken.
        DataError: a group or clip that the store does not have, or a part without clips.
        EnvironmentFault: the file cannot be written.
    """
    store = open_store(store)
    _check_name(store, name, overwrite=overwrite)
    if sum((bool(test), share is not None, file is not None)) != 1:
        raise ConfigError(
            "smae split: expected one of --test (with --by), --share and --file: which clips are tested on"
        )
    if file is not None:
        role = _from_file(Path(file), store.clips)
    elif share is None:
        role = _by_numbers(store.clips, by, test=test, val=val)
    else:
        role = _by_share(store.clips, by, share=share, val_share=val_share, seed=seed)
    for part in ("train", "test"):
        if not (role == splits.PARTS[part]).any():
            raise DataError(f"{store.path}: split {name} would have no {part} clips: choose other parts")
    folder = store.path if isinstance(store.path, Path) else None
    # Two writers at once would each keep only their own split.
    with locked(folder.with_name(f"{folder.name}.splits.lock"), wait=True) if folder else nullcontext():
        store = open_store(store.path)
        _check_name(store, name, overwrite=overwrite)
        own = {key: store.stored_splits[key] for key in store.own_splits}
        splits.write_own_splits(store.root, store.clips, own | {name: role})
    return open_store(store.path).split(name)


def _check_name(store: Store, name: str, *, overwrite: bool) -> None:
    if not splits.SPLIT_NAME.fullmatch(name):
        raise ConfigError(f"--name {name!a}: expected up to 64 letters, digits, '_', '.' and '-'")
    if name in store.own_splits:
        if not overwrite:
            raise ConfigError(
                f"{store.path} has a split {name} already: results on it would mean something "
                "else; choose another --name, or add --overwrite"
            )
    elif name == "all" or name in store.stored_splits or name in splits.NTU_PROTOCOLS.get(store.dataset, ()):
        raise ConfigError(f"--name {name}: that is a protocol of the data set: choose another name")


def _column(clips: ClipTable, by: str | None) -> NDArray[np.int16]:
    if by not in GROUPS:
        raise ConfigError(f"--by {by}: expected one of {', '.join(GROUPS)}{nearest(str(by), GROUPS)}")
    column: NDArray[np.int16] = getattr(clips, by)
    unknown = int((column < 0).sum())
    if unknown:
        raise DataError(f"{unknown:,} of the {len(clips):,} clips have no {by}: split by a list (--file) or --share")
    return column


def _by_numbers(clips: ClipTable, by: str | None, *, test: Sequence[int], val: Sequence[int]) -> Roles:
    column = _column(clips, by)
    known = np.unique(column).tolist()
    missing = sorted({*test, *val} - {*known})
    if missing:
        listed = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
        raise DataError(f"no clip of {by} {', '.join(map(str, missing))}: the store has {by} {listed}")
    both = sorted({*test} & {*val})
    if both:
        raise ConfigError(f"{by} {', '.join(map(str, both))}: in --test and in --val: a clip is in one part")
    role = np.full(len(clips), splits.TRAIN, np.uint8)
    role[np.isin(column, test)] = splits.TEST
    role[np.isin(column, val)] = splits.VAL
    return role


def _by_share(clips: ClipTable, by: str | None, *, share: float, val_share: float, seed: int) -> Roles:
    if not (0 < share < 1 and 0 <= val_share < 1 and share + val_share < 1):
        raise ConfigError(f"--share {share:g}, --val-share {val_share:g}: expected shares that leave some for training")
    role = np.full(len(clips), splits.TRAIN, np.uint8)
    if by is None:
        order = _spread_over_classes(clips.label.astype(np.int64), seed)
        column, groups = np.arange(len(clips)), order
    else:
        column = _column(clips, by).astype(np.int64)
        members = np.unique(column)
        groups = members[Noise(seed, 0, members).uniform("split", 1)[:, 0].argsort(kind="stable")]
    # At least one that tests, and one that validates if asked for; one is left to train.
    tests = min(len(groups) - 1, max(1, round(share * len(groups))))
    validates = min(len(groups) - tests - 1, max(1, round(val_share * len(groups)))) if val_share else 0
    role[np.isin(column, groups[:tests])] = splits.TEST
    role[np.isin(column, groups[tests : tests + validates])] = splits.VAL
    return role


def _spread_over_classes(label: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return clip numbers in a random order whose every beginning has each class in its share."""
    clips = np.arange(len(label))
    draw = Noise(seed, 0, clips).uniform("split", 1)[:, 0]
    place = np.empty(len(label))
    for kind in np.unique(label):
        members = np.flatnonzero(label == kind)
        # Systematic sampling: the k-th of n members stands at (k + u) / n, u drawn for the class.
        start = float(Noise(seed, 1, np.array([kind])).uniform("split", 1)[0, 0])
        place[members[draw[members].argsort(kind="stable")]] = (np.arange(len(members)) + start) / len(members)
    return np.argsort(place, kind="stable")


def _from_file(path: Path, clips: ClipTable) -> Roles:
    found = splits.collect_parts(read_lists(path), clips.name.tolist(), where=path)
    if len(found) != 1:
        raise DataError(f"{path}: lists of {len(found)} splits ({', '.join(found)}): expected those of one")
    (roles,) = found.values()
    return np.array([roles.get(name, 0) for name in clips.name.tolist()], np.uint8)


def splits_of_file(path: Path, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return the splits that a file of ``smae prepare --split`` lists; without a name ``own``."""
    found = splits.collect_parts(read_lists(path), names, where=path)
    return {_UNNAMED.sub(r"own\1", name): roles for name, roles in found.items()}


def read_lists(path: Path) -> dict[str, list[str]]:
    """Return lists of clip names by key, such as ``mine_train``, of a file.

    TOML or JSON: ``train = [...]``, ``mine_train = [...]``, or a table a split with lists by part.
    Anything else is text with a clip and its part on each line, with a comma, tab or blank between
    them; ``#`` begins a comment, a line ``name,part`` is a head.

    Raises:
        ConfigError: a file that is missing, too large, or of another form; with the line.
    """
    text = read_text(path, what="lists of clips", limit=MAX_JSON_BYTES)
    if path.suffix.lower() in (".toml", ".json"):
        try:
            content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not valid {path.suffix[1:].upper()} ({str(error)[:100]})") from error
        return _lists_of_tables(path, content)
    lists: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.partition("#")[0].strip()
        if not bare:
            continue
        cells = next(csv.reader([bare])) if "," in bare else bare.split()
        cells = [cell.strip() for cell in cells]
        if not lists and len(cells) == 2 and cells[0].lower() in ("name", "clip", "file", "sample"):
            continue
        if len(cells) != 2 or splits.parse_part(cells[1]) is None:
            raise ConfigError(
                f"{path}:{number}: expected a clip and its part (train, val or test), found {bare[:60]!a}"
            )
        lists.setdefault(cells[1], []).append(cells[0].removesuffix(".skeleton"))
    if not lists:
        raise ConfigError(f"{path}: it lists no clips: expected a clip and its part on each line")
    return lists


def _lists_of_tables(path: Path, content: Any) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for part, names in inner:
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ConfigError(f"{path}: {key} {part}: expected a list of clip names")
            lists["_".join(filter(None, (key, part)))] = [name.removesuffix(".skeleton") for name in names]
    if not lists:
        raise ConfigError(f"{path}: expected lists of clip names under train, val and test")
    return lists

"""Records of ``smae eval``: one JSON file for each probe and seed, which nothing replaces.

A record is named after a digest of what was asked for (``IDENTITY``): the same again is recognised,
anything else gets a file of its own. Beside ``<name>.json`` are ``<name>.safetensors`` (logits) and
``<name>.png`` (confusion matrix); the trained classifier is in ``heads/<name>``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import __version__
from smae.atomic_io import locked, os_errors, read_json
from smae.errors import DataError, LockedError
from smae.train.run_folder import Run

logger = logging.getLogger(__name__)

PRETRAINED, RANDOM, RAW = "pre-trained encoder", "random encoder", "raw coordinates"
CHANCE, MOST_FREQUENT = "chance", "most frequent class"
SUPERVISED, ENSEMBLE = "supervised from scratch", "ensemble"
"""Values of ``Row.what``."""

LAST, BEST_VAL, BEST_TEST, ONE_VIEW = "last", "best_val", "best_test", "one view"
"""Values of ``Row.selection``."""

VERSION = 1
IDENTITY = (
    "store", "protocol", "parts", "mode", "settings", "augment", "selection", "baselines", "checkpoint", "seed",
)  # fmt: skip
"""Keys of a record that say what was asked for; records that agree in all of them are the same."""
SEED = ("seed",)
ENCODER = ("seed", "checkpoint", "baselines")
"""Keys in which records of one result differ, and records that may be compared."""
_KINDS: dict[str, type] = {
    **dict.fromkeys(
        ("store", "protocol", "mode", "date", "command", "commit", "device", "manifest", "store_mode"), str
    ),
    **dict.fromkeys(("parts", "settings", "augment", "selection", "checkpoint", "versions"), dict),
    **dict.fromkeys(("seed", "seen_in_training", "most_frequent"), int),
    **dict.fromkeys(("warnings", "classes", "rows"), list),
}
_REMEDY = "move it away and run smae eval again"


@dataclass(frozen=True)
class Row:
    """One line of a table of results; accuracies in [0, 1].

    Attributes:
        what: the classifier: ``PRETRAINED``, a baseline, or a run of an ensemble.
        top1: accuracy, the mean over seeds.
        top5: top-5 accuracy, or None.
        std: standard deviation of ``top1`` over seeds; None for a single seed.
        interval: 95 % bootstrap interval over seeds and test clips; None for chance.
        seeds: number of seeds.
        note: a remark for reports.
        slot: number of the run in a comparison of runs, which decides its colour; else -1.
        mode: probe.
        selection: how the epoch was chosen: ``last``, ``best_val`` or ``best_test``; ``one view``
            is the last epoch with one plain view, next to an average of several.
        mean_class: mean of the accuracies of the classes in the test part, the mean over seeds.
        correct: bool [n], whether it is right about each test clip; empty if not known.
    """

    what: str
    top1: float
    top5: float | None = None
    std: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 1
    note: str = ""
    slot: int = -1
    mode: str = ""
    selection: str = LAST
    mean_class: float | None = None
    correct: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False, compare=False)

    @property
    def own(self) -> bool:
        """Whether it is a result and not a baseline."""
        return self.what == PRETRAINED

    def as_json(self) -> dict[str, Any]:
        """Return the figures of the row, without single clips."""
        keys = ("mode", "what", "top1", "top5", "mean_class", "selection", "seeds", "std", "interval")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True, eq=False)
class Record:
    """One probe of one encoder with one seed.

    Attributes:
        name: of its files.
        content: the JSON object.
        rows: the encoder first, then its baselines.
        test, label, predicted: int64 [n], clip numbers, true classes, and the probe's classes.
    """

    name: str
    content: dict[str, Any] = field(repr=False)
    rows: tuple[Row, ...]
    test: NDArray[np.int64] = field(repr=False)
    label: NDArray[np.int64] = field(repr=False)
    predicted: NDArray[np.int64] = field(repr=False)

    @property
    def identity(self) -> str:
        """Digest of all keys of ``IDENTITY``."""
        return digest(self.content)


def digest(content: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> str:
    """Return the SHA-256, hex, of the keys of ``IDENTITY`` other than ``without``."""
    chosen = {key: content[key] for key in IDENTITY if key not in without}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, allow_nan=False).encode()).hexdigest()


def stem(content: Mapping[str, Any]) -> str:
    """Return the name of a record's files: protocol, probe, and the start of its digest."""
    return f"{content['protocol']}-{content['mode']}-{digest(content)[:10]}"


def keep(run: Run, name: str, write: Callable[[str], None]) -> str:
    """Call ``write`` with the first free name, ``name`` or ``name-2`` and so on, and return that.

    A name is free while no record has it and no other process is writing one; ``write`` writes the
    JSON file last, so what an interrupted process left is no record.
    """
    with os_errors(run.results):
        run.results.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        free = name if number == 1 else f"{name}-{number}"
        try:
            with locked(run.results / f".{free}.lock"):
                if not (run.results / f"{free}.json").exists():
                    write(free)
                    return free
        except LockedError:
            continue
    raise AssertionError("there are more numbers")


def circumstances() -> dict[str, Any]:
    """Return when, with what and by which command a record is made."""
    import torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "versions": {
            "smae": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


@functools.cache
def commit() -> str:
    """Return the commit of the checkout that runs, ``+`` if it was changed; empty without."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    # An installed package may be inside another project's repository, whose commit says nothing.
    if not (root / ".git").exists():
        return ""
    try:
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(git("status", "--porcelain", "--", "smae", "cli"))
    except OSError:
        return ""


def mean_class(correct: NDArray[np.bool_], label: NDArray[np.int64]) -> float:
    """Return the mean over classes of the share of a class's clips that are right."""
    clips = np.bincount(label)
    right = np.bincount(label, weights=correct, minlength=len(clips))
    return float((right[clips > 0] / clips[clips > 0]).mean())


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as it is in a record: its figures, and one digit for each test clip."""
    right = "".join("01"[int(value)] for value in row.correct)
    return row.as_json() | {"correct": right}


def read_records(run: Run, *, strict: bool = True) -> list[Record]:
    """Return the records of a run by name; those of older versions are left out, with a note.

    Raises:
        DataError: a damaged record, or a file that is none; with ``strict`` false it is left out.
    """
    found, older = [], 0
    for path in sorted(run.results.glob("*.json")):
        try:
            record = read_record(path)
        except DataError:
            if strict:
                raise
            continue
        if record is None:
            older += 1
        else:
            found.append(record)
    if older:
        logger.info(
            f"{run.results}: left out, because they do not say of which checkpoint and clips they are: {older} "
            "of an older version of smae; run smae eval again"
        )
    return found


def read_record(path: Path) -> Record | None:
    """Return one record, checked by its predictions; None for an older version's."""
    content = read_json(path, what="record", remedy=_REMEDY)
    if "version" not in content and {"protocol", "mode", "rows", "confusion"} <= set(content):
        return None
    if content.get("version") != VERSION:
        raise DataError(
            f"{path}: no record of smae eval that this version reads (format {content.get('version')!r}): {_REMEDY}"
        )
    try:
        return parse_record(path.stem, content)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: no record of smae eval ({type(error).__name__}: {error}): {_REMEDY}") from None


def parse_record(name: str, content: dict[str, Any]) -> Record:
    """Return a record from its JSON object; a ``ValueError`` if it contradicts itself."""
    test, label, predicted = (np.array(content[key], np.int64) for key in ("test", "label", "predicted"))
    classes = len(content["classes"])
    _check_kinds(content, _KINDS)
    _check_kinds(content["parts"], {"train": int, "test": int, "sha256": str})
    _check_kinds(content["checkpoint"], {"step": int, "sha256": str})
    if content["id"] != digest(content):
        raise ValueError("its id is not that of its store, parts, settings and checkpoint")
    if not len(test) or not test.shape == label.shape == predicted.shape == (len(test),):
        raise ValueError("different numbers of clips, labels and predictions")
    if min(label.min(), predicted.min()) < 0 or max(label.max(), predicted.max()) >= classes:
        raise ValueError(f"a class that is none of its {classes}")
    rows = tuple(_read_row(row, label) for row in content["rows"])
    if not np.array_equal(rows[0].correct, predicted == label):
        raise ValueError("its first row is not that of its predictions")
    confusion = np.array(content["confusion"], np.int64)
    # The shape first: a list of classes may claim any number.
    expected = confusion_matrix(label, predicted, classes) if confusion.shape == (classes, classes) else None
    if expected is None or not np.array_equal(confusion, expected):
        raise ValueError("its confusion matrix is not that of its predictions")
    return Record(name, content, rows, test, label, predicted)


def _check_kinds(values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for key, kind in kinds.items():
        if type(values[key]) is not kind:
            raise TypeError(f"{key}: expected {kind.__name__}, found {values[key]!r:.40}")


def confusion_matrix(label: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return int64 [K, K]: clips by true class (down) and predicted class (across)."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (label, predicted), 1)
    return counts


def _read_row(row: dict[str, Any], label: NDArray[np.int64]) -> Row:
    low, high = row["interval"] or (None, None)
    correct = np.array([value == "1" for value in row["correct"]], bool)
    top1, per_class = _share(row["top1"]), row["mean_class"]
    if len(correct):
        # Accuracies are float32, means of clips are not.
        figures = float(correct.mean()), mean_class(correct, label)
        if max(abs(top1 - figures[0]), abs(_share(per_class) - figures[1])) > 1e-6:
            raise ValueError(f"{row['what']}: its figures are not those of its clips")
    elif row["what"] != CHANCE:
        raise ValueError(f"{row['what']}: single clips are missing")
    return Row(
        what=str(row["what"]),
        top1=top1,
        top5=None if row["top5"] is None else _share(row["top5"]),
        interval=None if low is None else (_share(low), _share(high)),
        mode=str(row["mode"]),
        selection=str(row["selection"]),
        mean_class=None if per_class is None else _share(per_class),
        correct=correct,
    )


def _share(value: Any) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"expected a share in [0, 1], found {value}")
    return float(value)

"""Evaluation results as ``smae eval`` wrote them into a run's folder, read back and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.atomic_io import read_json
from smae.errors import DataError
from smae.train.run_folder import Run

PRETRAINED = "pre-trained encoder"
RANDOM = "random encoder"
SUPERVISED = "supervised from scratch"
LAST = "last"

MODES = ("finetune", "linear", "knn", "semi-1", "semi-2", "semi-5", "semi-10", "transfer", "scratch")
"""Known modes; the first that was judged leads the page."""


@dataclass(frozen=True)
class Row:
    """One line: what was judged, its accuracies in [0, 1], how they vary over seeds and test clips, a remark.

    ``slot`` gives it a colour of its own where several runs are compared.
    """

    what: str
    top1: float
    top5: float | None = None
    std: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 1
    note: str = ""
    slot: int = -1

    @property
    def own(self) -> bool:
        """Whether it is a result, and no baseline."""
        return self.what == PRETRAINED


@dataclass(frozen=True, eq=False)
class Result:
    """What one probe found under one protocol.

    Attributes:
        protocol, mode: how it was judged.
        rows: the result and its baselines.
        classes: ids, by label.
        confusion: int64 [K, K], true class by predicted class.
        test, label, predicted: int64 [n]: clip numbers, true and predicted classes of the first seed.
        store: fingerprint of the store that was judged on.
    """

    protocol: str
    mode: str
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    test: NDArray[np.int64]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    store: str

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.protocol} · {self.mode}"

    @property
    def title(self) -> str:
        """The same, with the number of seeds that rows are the mean of."""
        return f"{self.name}, {self.lead.seeds} seeds" if self.lead.seeds > 1 else self.name

    @property
    def lead(self) -> Row:
        """The row that matters: the pre-trained encoder's, or the supervised one's of ``scratch``."""
        return next((row for row in self.rows if row.what in (PRETRAINED, SUPERVISED)), self.rows[0])


def read_results(run: Run, *, mode: str) -> list[Result]:
    """Return what was found of a run, the leading probe first.

    Args:
        run: whose.
        mode: how the store of the run was cleaned; results on another say so.

    Raises:
        DataError: a file that is no result of ``smae eval``.
    """
    found = [_read(path, mode=mode) for path in sorted(run.results.glob("*.json"))]
    return sorted(found, key=lambda one: (one.protocol, MODES.index(one.mode) if one.mode in MODES else len(MODES)))


def _read(path: Path, *, mode: str) -> Result:
    said = read_json(path, what="results", remedy="run smae eval again")
    try:
        result = Result(
            protocol=str(said["protocol"]),
            mode=str(said["mode"]),
            rows=tuple(_row(row, said, mode=mode) for row in said["rows"]),
            classes=tuple(map(str, said["classes"])),
            confusion=np.array(said["confusion"], np.int64),
            test=np.array(said["test"], np.int64),
            label=np.array(said["label"], np.int64),
            predicted=np.array(said["predicted"], np.int64),
            store=str(said.get("store", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: no result of smae eval ({type(error).__name__}: {error}): run it again") from None
    count = len(result.classes)
    if result.confusion.shape != (count, count) or not result.rows:
        raise DataError(
            f"{path}: expected rows and a confusion matrix of shape {(count, count)}, found {len(result.rows)} rows "
            f"and {result.confusion.shape}: run smae eval again"
        )
    if not result.test.shape == result.label.shape == result.predicted.shape == (len(result.test),):
        raise DataError(f"{path}: clips, labels and predictions are not as many: run smae eval again")
    return result


def _row(row: dict[str, Any], said: dict[str, Any], *, mode: str) -> Row:
    seen, notes = said.get("seen_in_training", 0), []
    if seen and row["what"] == PRETRAINED:
        notes.append(f"{seen:,} test clips were seen in pre-training")
    if said.get("store_mode", mode) != mode:
        notes.append(f"on a store in {said['store_mode']} mode")
    if row.get("selection", LAST) != LAST:
        notes.append(f"epoch chosen: {row['selection']}")
    shares = {"top1": row["top1"], "top5": row.get("top5")} | dict(enumerate(row.get("interval") or ()))
    for share in shares.values():
        if share is not None and not 0 <= float(share) <= 1:
            raise ValueError(f"expected a share in [0, 1], found {share}")
    low_high = row.get("interval")
    return Row(
        what=str(row["what"]),
        top1=float(row["top1"]),
        top5=None if row.get("top5") is None else float(row["top5"]),
        std=None if row.get("std") is None else float(row["std"]),
        interval=None if low_high is None else (float(low_high[0]), float(low_high[1])),
        seeds=int(row.get("seeds", 1)),
        note="; ".join(notes),
    )

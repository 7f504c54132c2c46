"""Results of ``smae eval``: rows, intervals, result files of a run, ensembles, confusion figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from smae import interrupts
from smae.atomic_io import atomic_file, read_json
from smae.errors import ConfigError, DataError
from smae.rng import Noise
from smae.train.run_folder import Run, find_run

PRETRAINED, RANDOM, RAW = "pre-trained encoder", "random encoder", "raw coordinates"
CHANCE, SUPERVISED, ENSEMBLE = "chance", "supervised from scratch", "ensemble"
"""Values of ``Row.what``."""

LAST, BEST_VAL, BEST_TEST, ONE_VIEW = "last", "best_val", "best_test", "one view"
"""Values of ``Row.selection``."""

MODES = ["finetune", "linear", "knn", "semi-1", "semi-2", "semi-5", "semi-10", "transfer", "scratch"]
"""Order of the built-in modes in reports: the first one with a result is the headline."""

DRAWS = 1000
"""Bootstrap samples."""
_CHUNK = 50
_REMEDY = "run smae eval again"


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

    @property
    def own(self) -> bool:
        """Whether it is a result and not a baseline."""
        return self.what == PRETRAINED

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is in result files."""
        keys = ("mode", "what", "top1", "top5", "selection", "seeds", "std", "interval")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True, eq=False)
class Result:
    """Result of one probe under one protocol.

    Attributes:
        protocol, mode: split and probe.
        rows: the pre-trained encoder and its baselines.
        classes: class ids, by label.
        confusion: int64 [K, K], true class by predicted class.
        test, label, predicted: int64 [n]: clip numbers, true and predicted classes, first seed.
        store: fingerprint of the evaluated store.
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
        """Protocol and mode, for headings."""
        return f"{self.protocol} · {self.mode}"

    @property
    def title(self) -> str:
        """The name, and the number of seeds if there are several."""
        return f"{self.name}, {self.lead.seeds} seeds" if self.lead.seeds > 1 else self.name

    @property
    def lead(self) -> Row:
        """The row of the pre-trained encoder; with ``scratch`` of the supervised one."""
        return next((row for row in self.rows if row.what in (PRETRAINED, SUPERVISED)), self.rows[0])


def read_results(run: Run, *, mode: str) -> list[Result]:
    """Return the results of a run, by protocol and in the order of ``MODES``.

    Args:
        run: the run.
        mode: cleaning mode of the run's store; results on a store of another mode get a note.

    Raises:
        DataError: a file that is not a result of ``smae eval``.
    """
    order = {name: number for number, name in enumerate(MODES)}
    results = [read_result(path, mode=mode) for path in sorted(run.results.glob("*.json"))]
    return sorted(results, key=lambda result: (result.protocol, order.get(result.mode, len(MODES))))


def read_result(path: Path, *, mode: str = "") -> Result:
    """Return one result file, checked.

    Raises:
        DataError: missing, or not a result of ``smae eval``.
    """
    content = read_json(path, what="results", remedy=_REMEDY)
    try:
        result = Result(
            protocol=str(content["protocol"]),
            mode=str(content["mode"]),
            rows=tuple(_read_row(row, content, mode=mode) for row in content["rows"]),
            classes=tuple(map(str, content["classes"])),
            confusion=np.array(content["confusion"], np.int64),
            test=np.array(content["test"], np.int64),
            label=np.array(content["label"], np.int64),
            predicted=np.array(content["predicted"], np.int64),
            store=str(content.get("store", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: no result of smae eval ({reason}): run it again") from None
    count = len(result.classes)
    if result.confusion.shape != (count, count) or not result.rows:
        raise DataError(
            f"{path}: expected rows and a confusion matrix of shape {(count, count)}, found "
            f"{len(result.rows)} rows and {result.confusion.shape}: {_REMEDY}"
        )
    if not result.test.shape == result.label.shape == result.predicted.shape == (len(result.test),):
        raise DataError(f"{path}: different numbers of clips, labels and predictions: {_REMEDY}")
    return result


def _read_row(row: dict[str, Any], content: dict[str, Any], *, mode: str) -> Row:
    selection, notes = str(row.get("selection", LAST)), []
    seen, store_mode = content.get("seen_in_training", 0), content.get("store_mode", mode)
    if seen and row["what"] == PRETRAINED:
        notes.append(f"{seen:,} test clips were seen in pre-training")
    if mode and store_mode != mode:
        notes.append(f"on a store in {store_mode} mode")
    if selection != LAST:
        notes.append(f"epoch chosen: {selection}")
    low, high = row.get("interval") or (None, None)
    return Row(
        what=str(row["what"]),
        top1=read_share(row["top1"]),
        top5=None if row.get("top5") is None else read_share(row["top5"]),
        std=None if row.get("std") is None else float(row["std"]),
        interval=None if low is None else (read_share(low), read_share(high)),
        seeds=int(row.get("seeds", 1)),
        note="; ".join(notes),
        mode=str(content["mode"]),
        selection=selection,
    )


def read_share(value: Any) -> float:
    """Return a share of a result file; ``TypeError`` or ``ValueError`` unless it is one."""
    if not 0 <= float(value) <= 1:
        raise ValueError(f"expected a share in [0, 1], found {value}")
    return float(value)


def bootstrap(correct: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % bootstrap percentile interval of an accuracy (Efron, 1979).

    Each draw resamples the seeds and the clips with replacement. All seeds share the resampled
    clips, because they were evaluated on the same ones.

    Args:
        correct: bool [S, n], whether each seed's classifier is right about each test clip.
    """
    seeds, means = len(correct), []
    for noise, clip in _resampled(correct.shape[1]):
        seed = (noise.uniform("bootstrap-seeds", seeds).astype(np.float64) * seeds).astype(np.int64)
        means += [float(correct[s][:, c].mean()) for s, c in zip(seed, clip, strict=True)]
    return _interval(means)


def bootstrap_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy of ``second`` minus that of ``first``, both bool [n].

    It is paired: each draw takes the same clips for both, so clips that are hard for both do not
    widen the interval.
    """
    gain, means = second.astype(np.float64) - first, list[float]()
    for _, clip in _resampled(len(gain)):
        means += gain[clip].mean(axis=1).tolist()
    return _interval(means)


def _resampled(clips: int) -> Iterator[tuple[Noise, NDArray[np.int64]]]:
    # In chunks, because all random numbers at once would be draws x clips.
    for start in range(0, DRAWS, _CHUNK):
        interrupts.check()
        noise = Noise(0, 0, np.arange(start, min(start + _CHUNK, DRAWS)))
        drawn = noise.uniform("bootstrap-clips", clips).astype(np.float64) * clips
        yield noise, drawn.astype(np.int64)


def _interval(means: list[float]) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(low), float(high)


def std_over_seeds(values: Sequence[float]) -> float | None:
    """Return the unbiased standard deviation over seeds; None for a single seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Ensemble:
    """Accuracies of several runs and of their ensemble.

    Attributes:
        protocol: full name of the split.
        mode: the probe.
        rows: one for each run, then the ensemble's.
        predicted: int64 [n], class that the ensemble predicts for each test clip.
    """

    protocol: str
    mode: str
    rows: list[Row]
    predicted: NDArray[np.int64]


def ensemble(
    runs: Sequence[Path | str],
    *,
    protocol: str | None = None,
    mode: str = "finetune",
    weights: Sequence[float] = (),
) -> Ensemble:
    """Evaluate an ensemble: the weighted mean of the softmax of the logits that ``evaluate`` wrote.

    Args:
        runs: two or more run folders, for example one for each stream.
        protocol: full name of the split or its last part; default the one of the first run.
        mode: a probe that ranks classes.
        weights: one for each run; default equal.

    Raises:
        ConfigError: fewer than two runs, or weights that do not fit.
        DataError: no such run, a run without these results, or results on different clips.
    """
    if len(runs) < 2:
        raise ConfigError("an ensemble needs two runs or more")
    share = np.array(weights or [1.0] * len(runs))
    if len(share) != len(runs) or (share < 0).any() or share.sum() <= 0:
        raise ConfigError(
            f"--weight: expected {len(runs)} numbers, one for each run, not below 0; found {list(weights)}"
        )
    found = [find_run(run) for run in runs]
    protocol = protocol or str(found[0].describe()["config"]["protocol"])
    results = [_read_logits(run, protocol, mode) for run in found]
    first, rows = results[0][0], []
    mean = np.zeros_like(results[0][1], np.float64)
    for run, (result, logits), weight in zip(found, results, share / share.sum(), strict=True):
        for key in ("protocol", "store", "test", "classes"):
            if not np.array_equal(getattr(result, key), getattr(first, key)):
                raise DataError(
                    f"{run.path}: its {key} differs from that of {found[0].path}: evaluate both under the same settings"
                )
        # The largest logit is subtracted, so that exp does not overflow.
        high = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf).astype(np.float64))
        mean += weight * high / high.sum(1, keepdims=True)
        rows.append(_accuracy(mode, str(run.path), logits.argmax(1), first.label))
    predicted = mean.argmax(1)
    rows.append(_accuracy(mode, ENSEMBLE, predicted, first.label))
    return Ensemble(first.protocol, mode, rows, predicted)


def _accuracy(mode: str, what: str, predicted: NDArray[np.int64], label: NDArray[np.int64]) -> Row:
    correct = predicted == label
    return Row(what, float(correct.mean()), interval=bootstrap(correct[None]), mode=mode)


def _read_logits(run: Run, protocol: str, mode: str) -> tuple[Result, NDArray[np.float32]]:
    name = f"{protocol}-{mode}.safetensors"
    paths = [*run.results.glob(name), *run.results.glob(f"*-{name}")]
    if not paths:
        raise DataError(
            f"{run.path}: no logits of {mode} on {protocol}: make them with "
            f"`smae eval --checkpoint {run.path} --protocol {protocol} --mode {mode}`"
        )
    result = read_result(paths[0].with_suffix(".json"))
    try:
        tensors = load_file(paths[0])
        logits, test = tensors["logits"], tensors["test"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{paths[0]}: {error}: {_REMEDY}") from None
    expected = (len(result.test), len(result.classes))
    if not np.array_equal(test, result.test) or logits.shape != expected:
        raise DataError(f"{paths[0]}: does not match the .json of the same name: {_REMEDY}")
    return result, logits


def draw_confusion(matrix: NDArray[np.int64], *, classes: Sequence[str], title: str, path: Path) -> None:
    """Write a confusion matrix [K, K] (true class down, predicted across) as a PNG, rows normalised."""
    from matplotlib.figure import Figure

    share = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    size = max(4.0, 0.28 * len(classes) + 2)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=90, fontsize=7)
    axes.set_yticks(ticks, classes, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    # Numbers fit into the cells of a small matrix only.
    if len(classes) <= 20:
        for row, column in np.argwhere(matrix > 0):
            shade = "white" if share[row, column] > 0.5 else "black"
            count = str(matrix[row, column])
            axes.text(column, row, count, ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=120, format="png")

"""Results: records that differ in their seed alone, as rows with intervals; which of them count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import interrupts
from smae.atomic_io import atomic_file
from smae.eval import records
from smae.eval.records import LAST, MOST_FREQUENT, Record, Row, mean_class
from smae.rng import Noise
from smae.train.run_folder import Run, stores_of

MODES = ["finetune", "linear", "knn", "semi-1", "semi-2", "semi-5", "semi-10", "transfer", "scratch"]
"""Order of the built-in modes in reports: the first one with a result is the headline."""

RULE = "the run's own store first, then the newest checkpoint, then the latest evaluation"
"""How one of several results of a protocol and a probe is chosen."""

DRAWS = 1000
"""Bootstrap samples."""
_CHUNK = 50


@dataclass(frozen=True, eq=False)
class Result:
    """Result of one probe of one encoder under one protocol, over one or several seeds.

    Attributes:
        records: one for each seed, which agree in everything else.
        notes: what a reader must know: another store, an older checkpoint, clips seen before.
        current: whether it is of the run's own store and newest checkpoint.
    """

    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()
    current: bool = True

    @property
    def first(self) -> dict[str, Any]:
        """Content of the record of the first seed."""
        return self.records[0].content

    @property
    def protocol(self) -> str:
        """The split."""
        return str(self.first["protocol"])

    @property
    def mode(self) -> str:
        """The probe."""
        return str(self.first["mode"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class ids, by label."""
        return tuple(map(str, self.first["classes"]))

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Int64 [K, K], true class by predicted class, first seed."""
        record = self.records[0]
        return records.confusion_matrix(record.label, record.predicted, len(self.classes))

    @property
    def name(self) -> str:
        """Protocol and mode, for headings."""
        return f"{self.protocol} · {self.mode}"

    @property
    def title(self) -> str:
        """The name, and the number of seeds if there are several."""
        return f"{self.name}, {len(self.records)} seeds" if len(self.records) > 1 else self.name

    @property
    def lead(self) -> Row:
        """The row of the pre-trained encoder; with ``scratch`` of the supervised one."""
        return next((row for row in self.rows if row.what in (records.PRETRAINED, records.SUPERVISED)), self.rows[0])

    @property
    def place(self) -> tuple[str, int, str]:
        """Where it stands among results: by protocol, then in the order of ``MODES``."""
        return self.protocol, (*MODES, self.mode).index(self.mode), self.mode

    @property
    def alike(self) -> str:
        """Digest without checkpoint and seed: results of equal ones may be compared."""
        return records.digest(self.first, without=records.ENCODER)

    @property
    def settings(self) -> dict[str, str]:
        """Settings of the probe, selection, seeds, checkpoint and store, as text by dotted name."""
        content = self.first
        checkpoint = content["checkpoint"]
        return {
            **flatten({content["mode"]: content["settings"]}),
            **flatten({"selection": content["selection"], "augment": content["augment"]}),
            "seeds": ", ".join(str(record.content["seed"]) for record in self.records),
            "checkpoint": f"step {checkpoint['step']}, {checkpoint['sha256'][:8]}",
            "store": str(content["store"])[:8],
            "parts": f"{content['parts']['train']:,} / {content['parts']['test']:,}, {content['parts']['sha256'][:8]}",
        }

    @property
    def top1(self) -> float:
        """Accuracy of the encoder's probe, the mean over seeds."""
        return float(np.mean([record.rows[0].top1 for record in self.records]))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Bool [S, n], whether each seed's probe is right about each test clip."""
        return np.stack([record.rows[0].correct for record in self.records])

    @property
    def warnings(self) -> list[str]:
        """What makes its figures less than they seem."""
        return [str(words) for words in self.first["warnings"]]

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The encoder, its baselines, chance and the most frequent class: means over the seeds."""
        rows, label = [], self.records[0].label
        for number, row in enumerate(self.records[0].rows):
            rows.append(_mean_row([record.rows[number] for record in self.records]))
            if row.what == records.CHANCE:
                right = label == self.first["most_frequent"]
                share = float(right.mean())
                rows.append(Row(MOST_FREQUENT, share, mode=self.mode, mean_class=mean_class(right, label)))
        return tuple(rows)


def _mean_row(rows: Sequence[Row]) -> Row:
    """Return the row of several seeds: mean, standard deviation, interval over seeds and clips."""
    first = rows[0]
    if len(rows) == 1 or not len(first.correct):
        return first
    top1, top5 = [row.top1 for row in rows], [row.top5 for row in rows if row.top5 is not None]
    return Row(
        first.what,
        float(np.mean(top1)),
        float(np.mean(top5)) if top5 else None,
        std=std_over_seeds(top1),
        interval=bootstrap(np.stack([row.correct for row in rows])),
        seeds=len(rows),
        mode=first.mode,
        selection=first.selection,
        mean_class=float(np.mean([row.mean_class or 0.0 for row in rows])),
    )


def read_results(run: Run, *, strict: bool = True) -> list[Result]:
    """Return the results of a run: by protocol, in the order of ``MODES``, then by ``RULE``.

    Of records that agree in everything, seed included, the latest counts.

    Args:
        run: the run; of an exported encoder its folder.
        strict: whether a damaged record is an error; else it is left out.

    Raises:
        DataError: a damaged record.
    """
    about: Mapping[str, Any] = {"store": {}}
    if (run.path / "run.json").is_file():
        about = run.describe()
    newest = run.newest_checkpoint()
    groups: dict[str, dict[int, Record]] = {}
    for record in sorted(records.read_records(run, strict=strict), key=lambda record: record.content["date"]):
        groups.setdefault(records.digest(record.content, without=records.SEED), {})[record.content["seed"]] = record
    results = []
    for seeds in groups.values():
        ordered = tuple(seeds[seed] for seed in sorted(seeds))
        notes, current = _notes(ordered[0].content, about["store"], newest)
        results.append(Result(ordered, notes, current))
    results.sort(key=lambda one: max(record.content["date"] for record in one.records), reverse=True)
    own = stores_of(about["store"])
    return sorted(
        results,
        key=lambda one: (*one.place, one.first["store"] not in own, not one.current, -one.first["checkpoint"]["step"]),
    )


def _notes(content: Mapping[str, Any], store: Mapping[str, Any], newest: Path | None) -> tuple[tuple[str, ...], bool]:
    """Return notes on a record, and whether it is of the run's store and newest checkpoint."""
    notes, step = [], content["checkpoint"]["step"]
    own = not store.get("fingerprint") or content["store"] in stores_of(store)
    latest = newest is None or _sha256(newest / "manifest.json") == content["manifest"]
    if not own:
        notes.append(f"on another store, {content['store'][:8]}, in {content['store_mode']} mode")
    if newest is not None and not latest:
        notes.append(f"of an older checkpoint, step {step:,}; the newest is {newest.name}")
    if content["seen_in_training"]:
        notes.append(f"{content['seen_in_training']:,} test clips were seen in pre-training")
    return tuple(notes), own and latest


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def choose(results: Sequence[Result]) -> list[Result]:
    """Return the first of ``read_results`` of each protocol and probe: it counts by ``RULE``."""
    chosen: dict[tuple[str, str], Result] = {}
    for result in results:
        chosen.setdefault((result.protocol, result.mode), result)
    return list(chosen.values())


def matrix(results: Sequence[Result]) -> dict[str, list[Row | None]]:
    """Return rows of the last epoch by classifier, a column a result; chance comes last."""
    cells = {(row.what, number): row for number, one in enumerate(results) for row in one.rows if row.selection == LAST}
    names = sorted(dict.fromkeys(what for what, _ in cells), key=(records.CHANCE, MOST_FREQUENT).__contains__)
    return {what: [cells.get((what, number)) for number in range(len(results))] for what in names}


def differences(results: Sequence[Result], *, without: tuple[str, ...] = ("seeds",)) -> list[str]:
    """Return in which settings each result differs from others of its protocol and probe."""
    labels = []
    for result in results:
        mine, words = result.settings, []
        others = [one.settings for one in results if (one.protocol, one.mode) == (result.protocol, result.mode)]
        for key in dict.fromkeys(key for one in others for key in one):
            if key not in without and len({one.get(key) for one in others}) > 1:
                words.append(f"{key} {mine.get(key, '–')}")
        labels.append(", ".join(words))
    return labels


def flatten(settings: Mapping[str, Any], *, prefix: str = "") -> dict[str, str]:
    """Return settings with dotted names, as text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = setting_text(value)
    return flat


def setting_text(value: Any) -> str:
    """Return a setting's value for people."""
    if value is None or value is True or value is False:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value)) or "–"
    return str(value)


def bootstrap(correct: NDArray[Any]) -> tuple[float, float]:
    """Return the 95 % bootstrap percentile interval of an accuracy (Efron, 1979).

    Each draw resamples the seeds and the clips with replacement. All seeds share the resampled
    clips, because they were evaluated on the same ones.

    Args:
        correct: bool [S, n], whether each seed's classifier is right about each test clip.
    """
    seeds, means = len(correct), []
    for noise, clip in _resampled(correct.shape[1]):
        seed = _seeds(noise, seeds, "bootstrap-seeds")
        means += [float(correct[s][:, c].mean()) for s, c in zip(seed, clip, strict=True)]
    return _interval(means)


def bootstrap_difference(first: NDArray[Any], second: NDArray[Any], *, paired: bool = True) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy of ``second`` minus that of ``first``.

    Each draw takes the same clips for both, so clips that are hard for both do not widen the
    interval; if ``paired``, the same seeds too.

    Args:
        first: [S, n], whether each seed is right about each test clip, or the share of times.
        second: [S', n]; S' = S if ``paired``.
        paired: whether row s of both is of the same seed.
    """
    means = list[float]()
    for noise, clips in _resampled(first.shape[1]):
        one = _seeds(noise, len(first), "bootstrap-seeds")
        two = one if paired else _seeds(noise, len(second), "bootstrap-more-seeds")
        for rows, others, clip in zip(one, two, clips, strict=True):
            means.append(float(second[others][:, clip].mean() - first[rows][:, clip].mean()))
    return _interval(means)


def _seeds(noise: Noise, count: int, stream: str) -> NDArray[np.int64]:
    drawn: NDArray[np.int64] = (noise.uniform(stream, count).astype(np.float64) * count).astype(np.int64)
    return drawn


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


def draw_confusion(matrix: NDArray[np.int64], *, classes: Sequence[str], title: str, path: Path) -> None:
    """Write a confusion matrix [K, K], true class down, as a PNG, rows normalised."""
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

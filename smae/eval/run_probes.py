"""Runs probes of an encoder and baselines; checks for data that make figures flatter."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smae import interrupts, progress
from smae.config import LABEL_SHARES, PROBE_SECTIONS
from smae.data.store import Store
from smae.data.store.chunks import SHARD_ROWS
from smae.data.store.splits import Split
from smae.errors import ConfigError
from smae.eval.features import Features, Pooled, raw_coordinates
from smae.eval.probes import FeatureKey, Probe, ProbeContext, Scores
from smae.eval.probes.finetune import TRAINING_PASSES, semi_context
from smae.eval.probes.linear import knn_on, linear_on
from smae.eval.records import BEST_VAL, CHANCE, LAST, PRETRAINED, RANDOM, RAW, SUPERVISED, Row, mean_class
from smae.eval.results import bootstrap
from smae.models.encoders import Encoder
from smae.train.config import random_encoder
from smae.train.run_folder import stores_of


@dataclass(frozen=True)
class Outcome:
    """What a probe gave with one seed: rows, the encoder's first, and the encoder's scores."""

    mode: str
    seed: int
    rows: tuple[Row, ...]
    scores: Scores
    seconds: float


def run_probes(
    encoder: Encoder,
    context: ProbeContext,
    chosen: Mapping[str, Probe],
    units: Iterable[tuple[int, str]],
    *,
    baselines: bool = True,
) -> Iterator[Outcome]:
    """Yield the outcome of each unit, as it comes.

    No outcome depends on earlier ones, so an interrupted evaluation goes on with equal figures.

    Args:
        encoder: pre-trained; it is moved to the device of the context, otherwise unchanged.
        context: data, split, settings.
        chosen: probes by mode.
        units: seeds and modes, seed by seed. A seed draws heads, augmentation, labelled subsets and
            the random encoder; the pre-trained encoder is always the same.
        baselines: evaluate the random encoder and raw coordinates; without, ``scratch`` and
            chance are the only comparisons.
    """
    encoder, units = encoder.to(context.device), list(units)
    shared: dict[FeatureKey, Features] = {}
    costs = [_cost(context, mode, baselines=baselines) for _, mode in units]
    sides: dict[int, _Baselines] = {}
    with progress.whole("eval", total=sum(costs), unit="clips") as task:
        for number, (seed, mode) in enumerate(units):
            interrupts.check()
            started = time.monotonic()
            if seed not in sides:
                config = context.config.model_copy(update={"seed": seed})
                # Another seed draws other views and another random encoder; the rest is the same.
                shared = {key: one for key, one in shared.items() if _of_any_seed(key, encoder)}
                seeded = replace(context, config=config, cache=shared)
                sides = {seed: _Baselines(seeded, shown=baselines)}
            # Built-in probes set their own seed; a plug-in's must not depend on what ran before.
            torch.manual_seed(seed)
            found = list(sides[seed].probe(encoder, mode, chosen[mode]))
            if not all(isinstance(scores, Scores) for _, scores in found):
                raise ConfigError(f"probe '{mode}': expected Scores, found {found[0][1]!r}: mend the plug-in")
            rows = rows_of(mode, found, context)
            yield Outcome(mode, seed, tuple(rows), found[0][1], time.monotonic() - started)
            done = max(task.done, sum(costs[: number + 1]))
            task.update(done, note=f"{number + 1} of {len(units)} done: {mode}, seed {seed}")


def _of_any_seed(key: FeatureKey, encoder: Encoder) -> bool:
    """Return whether features are of plain clips: the pre-trained encoder's or raw coordinates."""
    extractor, _, view = key
    pretrained = isinstance(extractor, Pooled) and extractor.encoder is encoder
    return view is None and (pretrained or extractor is raw_coordinates)


def rows_of(mode: str, found: Sequence[tuple[str, Scores]], context: ProbeContext) -> list[Row]:
    """Return the rows of a probe, each classifier with its scores, then chance."""
    rows = [
        _row(mode, what, selection, one)
        for what, scores in found
        for selection, one in ((LAST, scores), *scores.alternatives.items())
    ]
    kinds = len(np.unique(np.asarray(context.store.clips.label)[context.split.test]))
    return [*rows, Row(CHANCE, 1 / kinds, mode=mode, mean_class=1 / kinds)]


@dataclass(frozen=True)
class _Baselines:
    """Random encoder and raw coordinates with one seed, each made when it is first needed."""

    context: ProbeContext
    shown: bool

    @cached_property
    def untrained(self) -> Encoder:
        return random_encoder(self.context.config, self.context.store.layout).to(self.context.device)

    @cached_property
    def raw_linear(self) -> Scores:
        return linear_on(raw_coordinates, self.context)

    def probe(self, encoder: Encoder, mode: str, probe: Probe) -> Iterator[tuple[str, Scores]]:
        """Yield classifier and scores: the encoder, then its baselines."""
        context = self.context
        if mode == "scratch":
            yield SUPERVISED, probe(self.untrained, context)
        else:
            yield PRETRAINED, probe(encoder, context)
            if self.shown:
                yield RANDOM, probe(self.untrained, context)
        if not self.shown:
            return
        if mode == "knn":
            yield RAW, knn_on(raw_coordinates, context)
        part, what = semi_context(mode, context), RAW if mode == "linear" else f"{RAW}, linear"
        yield what, self.raw_linear if part is context else linear_on(raw_coordinates, part)


def _cost(context: ProbeContext, mode: str, *, baselines: bool) -> int:
    """Return roughly how many clips a probe encodes, for the time left."""
    config, clips = context.config, len(context.split.train) * LABEL_SHARES.get(mode, 1.0)
    section = getattr(config, PROBE_SECTIONS.get(mode, "linear"))
    if section is config.linear:
        clips *= max(1, min(section.views, section.epochs))
    elif section is not config.knn:
        clips *= TRAINING_PASSES * section.epochs
    trainings = 1 + (BEST_VAL in config.selection.also)
    return round(clips * trainings * (2 if baselines and mode != "scratch" else 1)) or 1


def _row(mode: str, what: str, selection: str, scores: Scores) -> Row:
    return Row(
        what,
        scores.top1,
        scores.top5,
        interval=bootstrap(scores.correct[None]),
        mode=mode,
        selection=selection,
        mean_class=mean_class(scores.correct, scores.label),
        correct=scores.correct,
    )


def data_warnings(store: Store, split: Split) -> list[str]:
    """Return what makes any accuracy of a split say less than it seems, one line each."""
    label = np.asarray(store.clips.label)
    train, test = np.unique(label[split.train]), label[split.test]
    warnings, unseen = [], ~np.isin(test, train)
    if unseen.any():
        names = [store.classes[kind] for kind in np.unique(test[unseen])]
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        warnings.append(
            f"{unseen.sum():,} of the {len(test):,} test clips are of classes that the train part "
            f"never shows, and no probe can learn: {listed}"
        )
    for part, kinds in (("train", train), ("test", np.unique(test))):
        if len(kinds) == 1:
            warnings.append(
                f"the {part} part has clips of one class only ({store.classes[kinds[0]]}): no accuracy says anything"
            )
    copies = duplicates(store, split)
    if copies:
        warnings.append(f"{copies:,} of the {len(test):,} test clips have the same joints as a train clip")
    return warnings


def duplicates(store: Store, split: Split) -> int:
    """Return how many test clips have the same joints, bit for bit, as a train clip."""
    clips = store.clips
    size = np.asarray(clips.frames, np.int64) * clips.bodies
    both = np.union1d(split.train, split.test)
    hashes: dict[int, bytes] = {}
    # Many clips at once: a store is read in whole chunks.
    blocks = np.array_split(both, int(size[both].sum()) // SHARD_ROWS + 1)
    for block in progress.track(blocks, "copies among the clips", unit="blocks"):
        if not len(block):
            continue
        first = int(clips.offset[block[0]])
        rows = store.rows(first, int(clips.offset[block[-1]] + size[block[-1]]))
        for clip in block.tolist():
            start = int(clips.offset[clip]) - first
            own = rows[start : start + int(size[clip])].tobytes()
            hashes[clip] = hashlib.blake2b(own, digest_size=16, person=bytes([clips.bodies[clip]])).digest()
    train = {hashes[clip] for clip in split.train.tolist()}
    return sum(hashes[clip] in train for clip in split.test.tolist())


def seen_in_training(trained: Mapping[str, Any], protocol: str, store: Store, *, test: NDArray[np.int64]) -> int:
    """Return how many test clips pre-training saw; 0 if it used other stores."""
    own = stores_of(trained).get(store.fingerprint)
    if own is None:
        return 0
    protocol = own.get("protocol", protocol)
    return len(np.intersect1d(store.training_split(protocol).train, test))

"""Where test clips lie for the encoder: their features as a map in two dimensions, coloured by class or by subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray

from smae.data.loader.loader import Loader
from smae.data.raw.class_counts import class_names
from smae.data.store.store import Store
from smae.eval.features import Pooled, extract
from smae.eval.probes import ENCODE_BATCH
from smae.models.encoders import Encoder
from smae.rng import Noise
from smae.train.config import RunConfig
from smae.viz.report.markup import missing
from smae.viz.report.tsne import PERPLEXITY, tsne

MOST = 1000
"""Clips on the map at most, drawn from the test part; the same ones every time."""

FEWEST = 8
NEIGHBOURS = 10

_SIZE, _EDGE = 560, 14


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Places of clips on the map, and what is known of each.

    Attributes:
        places: float64 [n, 2].
        clip: int64 [n], numbers in the store.
        label, subject: int64 [n]; subjects are -1 where the data set has none.
        same_class, same_subject: of each clip's nearest neighbours by cosine, the mean share that has its class, or its
            subject; ``by_chance`` are the same of neighbours drawn at random.
        of: test clips in all.
    """

    places: NDArray[np.float64]
    clip: NDArray[np.int64]
    label: NDArray[np.int64]
    subject: NDArray[np.int64]
    same_class: float
    same_subject: float
    by_chance: tuple[float, float]
    of: int


def map_features(
    encoder: Encoder, store: Store, config: RunConfig, *, device: torch.device, tell: Callable[[int, int], None]
) -> FeatureMap | None:
    """Return the map of a run's test clips; None of fewer than ``FEWEST``."""
    test = store.split(config.protocol).test
    chosen = choose(test, MOST)
    if len(chosen) < FEWEST:
        return None
    loader = Loader(
        store, chosen, augment=config.augment, batch=ENCODE_BATCH, seed=config.seed, train=False, device=device,
        workers=0,
    )  # fmt: skip
    features = extract(Pooled(encoder.to(device)), loader)
    label, subject = features.label.numpy(), store.clips.subject[chosen].astype(np.int64)
    x = features.x.double().numpy()
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    near = _nearest(unit, min(NEIGHBOURS, len(x) - 1))
    return FeatureMap(
        places=tsne(unit),
        clip=chosen,
        label=label,
        subject=subject,
        same_class=float((label[near] == label[:, None]).mean()),
        same_subject=float((subject[near] == subject[:, None]).mean()),
        by_chance=(_by_chance(label), _by_chance(subject)),
        of=len(test),
    )


def choose(clips: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most so many of ``clips``, ascending: drawn, but the same ones every time."""
    if len(clips) <= most:
        return clips
    luck = Noise(0, 0, clips).uniform("map", 1)[:, 0]
    return np.sort(clips[np.argsort(luck, kind="stable")[:most]])


def _nearest(unit: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    return np.argsort(-alike, axis=1, kind="stable")[:, :count]


def _by_chance(values: NDArray[np.int64]) -> float:
    """Return how often another value, drawn at random, is the same."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum() / (len(values) * (len(values) - 1)))


def draw_map(found: FeatureMap | None, store: Store) -> str:
    """Return the map as SVG with its legends, or why there is none."""
    if found is None:
        return missing(f"The test part has fewer than {FEWEST} clips: too few for a map.")
    low, high = found.places.min(0), found.places.max(0)
    scale = (_SIZE - 2 * _EDGE) / max(float((high - low).max()), 1e-12)
    xy = (found.places - (low + high) / 2) * scale + _SIZE / 2
    names, known = class_names(store), bool((found.subject >= 0).any())
    points = ""
    for label in np.unique(found.label).tolist():
        members = "".join(
            f'<circle cx="{xy[n, 0]:.1f}" cy="{xy[n, 1]:.1f}" r="4" style="--s:{_hue(int(found.subject[n]))}" '
            f'data-s="{found.subject[n]}"><title>{escape(_told(store, names, found, n))}</title></circle>'
            for n in np.flatnonzero(found.label == label).tolist()
        )
        points += f'<g style="--c:{_hue(label)}" data-c="{label}">{members}</g>'
    classes = [(label, names[label]) for label in np.unique(found.label).tolist()]
    subjects = [(subject, f"subject {subject}") for subject in np.unique(found.subject).tolist()] if known else []
    colouring = (
        '<div class="buttons" role="group" aria-label="colours"><button type="button" data-by="class" '
        'aria-pressed="true">by class</button><button type="button" data-by="subject" aria-pressed="false">by subject'
        "</button></div>"
        if known
        else ""
    )
    return (
        f'<div class="map by-class">{colouring}<div class="beside"><svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" '
        f'aria-label="map of the features of {len(xy)} test clips">{points}</svg>'
        f'<div class="keys">{_keys(classes, "c")}{_keys(subjects, "s")}</div></div>'
        f'<p class="note point" aria-live="polite">Point at a dot for its clip, at a name to see its dots alone.</p>'
        f"{_words(found, known)}</div>"
    )


def _told(store: Store, names: Sequence[str], found: FeatureMap, number: int) -> str:
    who = f" · subject {found.subject[number]}" if found.subject[number] >= 0 else ""
    return f"{store.clips.name[found.clip[number]]} · {names[int(found.label[number])]}{who}"


def _keys(named: Sequence[tuple[int, str]], letter: str) -> str:
    keys = "".join(
        f'<button type="button" data-{letter}="{value}" style="--{letter}:{_hue(value)}">{escape(name)}</button>'
        for value, name in named
    )
    return f'<div class="of-{letter}">{keys}</div>' if keys else ""


def _hue(value: int) -> int:
    """Return a hue, degrees; neighbours in number are far apart in colour."""
    return round(value * 137.508) % 360


def _words(found: FeatureMap, known: bool) -> str:
    count = f"{len(found.clip):,} of {found.of:,}" if len(found.clip) < found.of else f"All {found.of:,}"
    neighbours = min(NEIGHBOURS, len(found.clip) - 1)
    subject = (
        f", {100 * found.same_subject:.0f} % its subject (by chance {100 * found.by_chance[1]:.0f} %)" if known else ""
    )
    return (
        f'<p class="note">{count} test clips; features as smae embed gives them, by t-SNE (perplexity '
        f"{PERPLEXITY:g}, nothing random). Near means alike; far distances and sizes of groups mean nothing. Of a "
        f"clip's {neighbours} nearest neighbours by cosine, {100 * found.same_class:.0f} % have its class (by chance "
        f"{100 * found.by_chance[0]:.0f} %){subject}.</p>"
    )

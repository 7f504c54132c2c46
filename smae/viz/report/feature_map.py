"""Features of test clips as a two-dimensional map by t-SNE, coloured by class or by subject.

The t-SNE is exact and deterministic: equal points give an equal map.

Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008 (equations 1, 4, 5);
initialisation with principal components after Kobak and Berens, Nature Communications 10, 2019;
learning rate after Belkina et al., ibid.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smae import progress
from smae.data.loader.loader import Loader
from smae.data.raw.labels import class_names
from smae.data.store import Store
from smae.eval.features import Pooled, extract
from smae.eval.probes import ENCODE_BATCH
from smae.models.encoders import Encoder
from smae.rng import Noise
from smae.train.config import RunConfig
from smae.viz.report.page import Floats, missing, note

MAX_CLIPS = 1000
"""Maximum clips on the map, a fixed random choice of the test part."""
MIN_CLIPS = 8
NEIGHBOURS = 10
PERPLEXITY = 30.0
EXAGGERATION, EXAGGERATED, STEPS = 12.0, 150, 500
"""Factor of early exaggeration, number of first steps with it, and number of all steps."""
COLOURS = (
    *("1f77b4", "ff7f0e", "2ca02c", "d62728", "9467bd"),
    *("8c564b", "e377c2", "7f7f7f", "bcbd22", "17becf"),
)
"""Tableau 10, whose colours differ on white and on black."""
SHAPES = (
    "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0z",
    "M-4.4-4.4h8.8v8.8h-8.8z",
    "M0-5.4L5.4 4H-5.4z",
    "M0-6L5 0 0 6-5 0z",
    "M-1.7-5.5h3.4v3.8h3.8v3.4h-3.8v3.8h-3.4v-3.8h-3.8v-3.4h3.8z",
    "M0 5.4L5.4-4H-5.4z",
)
"""Paths of markers of about one area; with hollow ones and ``COLOURS``, 120 classes differ."""
_SIZE, _EDGE = 560, 14
_COMPONENTS = 50
_ROWS = 32
_TINY = 1e-12


def feature_map(encoder: Encoder, store: Store, config: RunConfig, *, device: torch.device) -> str:
    """Return the map of a run's test clips as SVG, with legends and shares of neighbours."""
    test = store.training_split(config.protocol).test
    clips = choose(test, MAX_CLIPS)
    if len(clips) < MIN_CLIPS:
        return missing(f"The test part has fewer than {MIN_CLIPS} clips: too few for a map.")
    features = _features(encoder, store, config, clips, device=device)
    label = store.clips.label[clips].astype(np.int64)
    subject = store.clips.subject[clips].astype(np.int64)
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    count = min(NEIGHBOURS, len(clips) - 1)
    near = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    words = f"{len(clips):,} of {len(test):,}" if len(clips) < len(test) else f"All {len(test):,}"
    words += (
        " test clips. Features as from smae embed, reduced by deterministic t-SNE (perplexity "
        f"{PERPLEXITY:g}). Nearby points have similar features; distances between far groups and "
        f"the sizes of groups have no meaning. Of a clip's {count} nearest neighbours by cosine "
        f"similarity, {_shares(label, near)} have its class"
    )
    if subject.max() >= 0:
        words += f", {_shares(subject, near)} its subject"
    chart = _chart(tsne(features), clips, label, subject, store)
    hint = note("Hover over a marker for its clip, over a name to highlight its clips.")
    return f'<div class="map by-class">{chart}{hint}{note(words + ".")}</div>'


def _features(
    encoder: Encoder, store: Store, config: RunConfig, clips: NDArray[np.int64], *, device: torch.device
) -> Floats:
    """Return the features [n, D] of clips, each of length 1."""
    batch, augment = ENCODE_BATCH, config.augment
    loader = Loader(store, clips, augment=augment, batch=batch, seed=config.seed, train=False, device=device, workers=0)
    x = extract(Pooled(encoder.to(device)), loader).x.double().numpy()
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY))


def _shares(values: NDArray[np.int64], near: NDArray[np.int64]) -> str:
    """Return how many neighbours share a clip's value, on average and by chance."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    chance = float((counts * (counts - 1)).sum() / (len(values) * (len(values) - 1)))
    return f"{100 * (values[near] == values[:, None]).mean():.0f} % (chance {100 * chance:.0f} %)"


def choose(clips: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most ``count`` of ``clips``, ascending: random, but always the same ones."""
    if len(clips) <= count:
        return clips
    draw = Noise(0, 0, clips).uniform("map", 1)[:, 0]
    return np.sort(clips[np.argsort(draw, kind="stable")[:count]])


def tsne(x: Floats, *, perplexity: float = PERPLEXITY, steps: int = STEPS) -> Floats:
    """Return positions [n, 2] of points [n, D], n at least 4.

    Args:
        x: points.
        perplexity: effective number of neighbours; reduced to a third of the other points.
        steps: of gradient descent.

    Raises:
        Interrupted: a signal arrived.
    """
    x = _principal(x, _COMPONENTS)
    p = affinities(x, min(perplexity, (len(x) - 1) / 3)).astype(np.float32)
    first = np.pad(x, ((0, 0), (0, max(0, 2 - x.shape[1]))))[:, :2]
    y = (1e-4 * first / max(first[:, 0].std(), _TINY)).astype(np.float32)
    exaggerated = p * np.float32(EXAGGERATION)
    rate = max(len(x) / EXAGGERATION / 4, 50.0)
    velocity, gain = np.zeros_like(y), np.ones_like(y)
    for step in progress.track(range(steps), "t-SNE", unit="steps"):
        target, momentum = p, 0.8
        if step < EXAGGERATED:
            target, momentum = exaggerated, 0.5
        slope = gradient(target, y)
        gain = np.maximum(np.where((slope > 0) == (velocity > 0), gain * 0.8, gain + 0.2), 0.01)
        velocity = momentum * velocity - np.float32(rate) * gain * slope
        y = y + velocity
        y -= y.mean(0)
    return np.asarray(y, np.float64)


def gradient(p: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return the gradient [n, 2] of the KL divergence from p [n, n] at positions y (equation 5)."""
    # The sum of similarities counts each point's own as 1, which does not belong to it.
    attract, repel, total = np.empty_like(y), np.empty_like(y), -float(len(y))
    # A few rows at a time stay in the cache. Matrix products are avoided: at this size their
    # threads wait for each other longer than they compute.
    for start in range(0, len(y), _ROWS):
        rows = slice(start, start + _ROWS)
        offset = [y[rows, c, None] - y[:, c] for c in (0, 1)]
        similarity = np.square(offset[0])
        similarity += np.square(offset[1])
        similarity += 1
        np.reciprocal(similarity, out=similarity)
        total += float(similarity.sum())
        weighted = p[rows] * similarity
        similarity *= similarity
        for c in (0, 1):
            attract[rows, c] = np.einsum("ij,ij->i", weighted, offset[c])
            repel[rows, c] = np.einsum("ij,ij->i", similarity, offset[c])
    return np.asarray(4 * (attract - repel / total), y.dtype)


def affinities(x: Floats, perplexity: float) -> Floats:
    """Return symmetric affinities [n, n] that sum to 1, of the given perplexity (equation 1)."""
    squares = _squared_distances(x)
    np.fill_diagonal(squares, np.inf)
    squares -= squares.min(1, keepdims=True)
    low, high = np.zeros(len(x)), np.full(len(x), np.inf)
    precision = 1 / np.maximum(np.median(np.where(np.isfinite(squares), squares, 0), axis=1), _TINY)
    # Bisection of each point's precision.
    for _ in range(50):
        share = np.exp(-squares * precision[:, None])
        share /= share.sum(1, keepdims=True)
        wide = -(share * np.log(np.maximum(share, _TINY))).sum(1) > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isfinite(high), (low + high) / 2, 2 * precision)
    return np.asarray(np.maximum((share + share.T) / (2 * len(x)), _TINY * (1 - np.eye(len(x)))))


def _squared_distances(x: NDArray[Any]) -> NDArray[Any]:
    size = (x * x).sum(1)
    squares: NDArray[Any] = x @ (-2 * x.T)
    squares += size
    squares += size[:, None]
    np.maximum(squares, 0, out=squares)
    return squares


def _principal(x: Floats, count: int) -> Floats:
    """Return principal components, with the sign that makes their largest weight positive."""
    u, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    sign = np.sign(v[np.arange(len(v)), np.abs(v).argmax(1)])
    components: Floats = (u * s * sign)[:, :count]
    return components


def _chart(
    positions: Floats, clips: NDArray[np.int64], label: NDArray[np.int64], subject: NDArray[np.int64], store: Store
) -> str:
    low, high = positions.min(0), positions.max(0)
    scale = (_SIZE - 2 * _EDGE) / max(float((high - low).max()), 1e-12)
    xy = (positions - (low + high) / 2) * scale + _SIZE / 2
    names, dots, colouring = class_names(store), "", ""
    classes, by_class = np.unique(label, return_inverse=True)
    subjects, by_subject = np.unique(subject, return_inverse=True)
    for n in range(len(xy)):
        title = f"{store.clips.name[clips[n]]} · {names[label[n]]}"
        if subject[n] >= 0:
            title += f" · subject {subject[n]}"
        dots += (
            f'<use {marker(by_class[n])} x="{xy[n, 0]:.1f}" y="{xy[n, 1]:.1f}" data-class="{by_class[n]}" '
            f'data-subject="{by_subject[n]}"><title>{escape(title)}</title></use>'
        )
    keys = _keys([names[number] for number in classes], "class")
    if max(subjects) >= 0:
        buttons = "".join(
            f'<button type="button" data-by="{name}" aria-pressed="{pressed}">by {name}</button>'
            for name, pressed in (("class", "true"), ("subject", "false"))
        )
        colouring = f'<div class="buttons" role="group" aria-label="colours">{buttons}</div>'
        keys += _keys([f"subject {number}" for number in subjects], "subject")
    return (
        f'{_shapes()}{colouring}<div class="beside"><svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="t-SNE of '
        f'the features of {len(xy)} test clips"><g class="points">{dots}</g></svg><div class="keys">{keys}</div></div>'
    )


def marker(number: int) -> str:
    """Return the shape and the colour of a class as attributes; they repeat after 120 classes."""
    shape = int(number) // len(COLOURS) % (2 * len(SHAPES))
    return f'href="#marker-{shape}" color="#{COLOURS[int(number) % len(COLOURS)]}"'


def _shapes() -> str:
    """Return the definitions of all markers, filled and hollow, in ``currentColor``."""
    symbols = ""
    for number, path in enumerate((*SHAPES, *SHAPES)):
        look = "marker-hollow" if number >= len(SHAPES) else "marker-filled"
        symbols += f'<path id="marker-{number}" class="{look}" d="{path}"/>'
    return f'<svg class="markers" aria-hidden="true"><defs>{symbols}</defs></svg>'


def _keys(names: Sequence[str], by: str) -> str:
    keys = "".join(
        f'<button type="button" data-{by}="{number}"><svg viewBox="-7 -7 14 14" aria-hidden="true">'
        f"<use {marker(number)}/></svg>{escape(name)}</button>"
        for number, name in enumerate(names)
    )
    return f'<div class="of-{by}">{keys}</div>'

"""How well hidden joints are rebuilt: the error by joint, drawn on a skeleton, and by frame; and clips that show it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from smae.data.store.store import Store
from smae.skeleton import Layout
from smae.train.config import RunConfig
from smae.train.objectives import Objective
from smae.viz import Scene
from smae.viz.player import legend, player
from smae.viz.reconstruction import Rebuilt, rebuild, scene_of
from smae.viz.report.charts import Floats, Series, line_chart
from smae.viz.report.feature_map import choose
from smae.viz.report.markup import bars, missing

MOST = 256
"""Test clips over which errors are taken at most."""

CLIPS = 4
"""Clips that play on the page."""

_AT_ONCE = 64
_EVERY = 6
_NAMED = 5
_WIDTH, _HEIGHT, _EDGE, _SIDE = 460, 430, 38, 130


@dataclass(frozen=True, eq=False)
class Errors:
    """Mean distances of hidden joints from the truth, millimetres; NaN where none was hidden.

    Attributes:
        joint: float64 [V].
        frame: float64 [T].
        all: over everything.
        pose: float64 [V, 3], metres, somebody who faces us, to draw them on: x to the right, y up.
        clips: over how many.
    """

    joint: NDArray[np.float64]
    frame: NDArray[np.float64]
    all: float
    pose: Floats
    clips: int


@dataclass(frozen=True, eq=False)
class Rebuilding:
    """What the page shows of rebuilding: errors, and scenes that play; ``note`` is the objective's own."""

    errors: Errors
    scenes: tuple[Scene, ...]
    note: str
    layout: Layout


def look(
    objective: Objective, store: Store, config: RunConfig, *, tell: Callable[[int, int], None]
) -> Rebuilding | None:
    """Return what an objective rebuilds of test clips, seen as in training but not varied.

    None where it rebuilds none in space.

    Raises:
        DataError: what it rebuilds is not finite.
    """
    test = store.split(config.protocol).test
    chosen, made = choose(test, MOST), list[Rebuilt]()
    for start in range(0, len(chosen), _AT_ONCE):
        made += rebuild(objective, store, config, clips=chosen[start : start + _AT_ONCE])
        if not made:
            return None
        tell(min(start + _AT_ONCE, len(chosen)), len(chosen))
    shown = rebuild(objective, store, config, clips=_varied(store, test))
    scenes = tuple(scene_of(one, objective, store, config) for one in shown)
    return Rebuilding(mean_errors(made, store.layout), scenes, objective.preview_note, store.layout)


def mean_errors(made: list[Rebuilt], layout: Layout) -> Errors:
    """Return the mean errors of clips, every hidden joint of every frame and body counting once."""
    total = np.zeros(made[0].off.shape[1:])
    count = np.zeros(total.shape)
    for one in made:
        total += np.nansum(one.off, axis=0)
        count += one.hidden.sum(axis=0)
    return Errors(
        joint=_mean(total.sum(0), count.sum(0)),
        frame=_mean(total.sum(1), count.sum(1)),
        all=float(_mean(total.sum(keepdims=True), count.sum(keepdims=True)).ravel()[0]),
        pose=_open_pose(made, layout),
        clips=len(made),
    )


def _open_pose(made: list[Rebuilt], layout: Layout) -> Floats:
    """Return the pose, turned to face us, that is tall and wide: joints hide each other least there."""
    poses = np.concatenate([one.original[0, ::_EVERY][one.seen[0, ::_EVERY].all(1)] for one in made]).astype(np.float64)
    if not len(poses):
        return np.asarray(made[0].original[0, 0], np.float64)
    turned = np.stack([_facing(pose, layout) for pose in poses])
    best = int((3 * np.ptp(turned[..., 1], axis=1) + np.ptp(turned[..., 0], axis=1)).argmax())
    return np.asarray(turned[best])


def _facing(pose: Floats, layout: Layout) -> Floats:
    """Return a pose [V, 3] turned about the vertical so that its left side is on the picture's right."""
    if not layout.mirror:
        return pose
    left, right = np.array(layout.mirror).T
    across = (pose[left] - pose[right]).mean(0)
    angle = np.arctan2(across[2], across[0])
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return np.asarray(pose @ turn.T)


def _mean(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _varied(store: Store, test: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a few test clips, of different classes where there are as many."""
    _, first = np.unique(store.clips.label[test], return_index=True)
    return np.sort(test[first[np.linspace(0, len(first) - 1, min(CLIPS, len(first))).round().astype(int)]])


def draw_rebuilding(found: Rebuilding | None, *, what: str) -> str:
    """Return the errors and the players, or why there are none; ``player.js`` takes the scenes as data, in order."""
    if found is None:
        return missing(f"Nothing to draw here: {what} predicts no places in space.")
    errors = found.errors
    frames = np.arange(1.0, len(errors.frame) + 1)
    chart = line_chart("error by frame (mm)", [Series("error, mm", frames, errors.frame)], of="frame", zero=True)
    order = [int(n) for n in np.argsort(-np.nan_to_num(errors.joint), kind="stable") if math.isfinite(errors.joint[n])]
    most = max((float(errors.joint[n]) for n in order), default=1.0) or 1.0
    listed = bars(
        ((found.layout.joints[n], float(errors.joint[n]), f"{errors.joint[n]:.0f} mm") for n in order), most=most
    )
    players = "".join(_clip(scene, number) for number, scene in enumerate(found.scenes))
    return (
        f'<p class="note">Hidden joints of {errors.clips:,} test clips are filled in {errors.all:.0f} mm off on '
        f"average, hidden as in training. {escape(found.note)}</p>"
        f'<div class="pair"><div>{skeleton_chart(errors, found.layout)}{chart}</div>'
        f"<div><h3>Error by joint</h3>{listed}</div></div><h3>Clips, hidden and filled in</h3>"
        f'<p class="legend">{legend(*found.scenes)} Drag to turn, point at a joint for its name. Grid: 50 cm.</p>'
        f'<div class="clips">{players}</div><noscript><p>The moving skeletons need JavaScript.</p></noscript>'
    )


def _clip(scene: Scene, number: int) -> str:
    told = dict(scene.facts)
    words = f"{told['hidden']} hidden, filled in {told['filled in']}"
    title = f"<h3>{escape(scene.title)}<small>{escape(words)}</small></h3>"
    return f'<div class="clip">{title}{player(scene, number=number)}</div>'


def skeleton_chart(errors: Errors, layout: Layout) -> str:
    """Return a standing skeleton as SVG, each joint as large and strong as its error; the worst ones are named."""
    x, y = errors.pose[:, 0], -errors.pose[:, 1]
    scale = min((_WIDTH - 2 * _SIDE) / max(np.ptp(x), 0.3), (_HEIGHT - 2 * _EDGE) / max(np.ptp(y), 0.3))
    xs, ys = (x - (x.min() + x.max()) / 2) * scale + _WIDTH / 2, (y - (y.min() + y.max()) / 2) * scale + _HEIGHT / 2 + 8
    error = np.nan_to_num(errors.joint)
    share = error / (error.max() or 1.0)
    order = np.argsort(-share, kind="stable").tolist()
    bones = "".join(
        f'<line x1="{xs[a]:.1f}" y1="{ys[a]:.1f}" x2="{xs[b]:.1f}" y2="{ys[b]:.1f}"/>' for a, b in layout.bones
    )
    dots = "".join(
        f'<circle cx="{xs[n]:.1f}" cy="{ys[n]:.1f}" r="{3 + 9 * share[n]:.1f}" '
        f'fill-opacity="{0.25 + 0.7 * share[n]:.2f}"><title>{escape(layout.joints[n])}: {_mm(errors.joint[n])}</title>'
        "</circle>"
        for n in order
    )
    return (
        f'<svg class="skeleton" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="error by joint">'
        f'<text class="name" x="14" y="22">error by joint</text><g class="bones">{bones}</g><g class="leads">'
        f'{_names(errors, layout, order[:_NAMED], xs, ys)}</g><g class="dots">{dots}</g></svg>'
    )


def _names(errors: Errors, layout: Layout, worst: list[int], xs: Floats, ys: Floats) -> str:
    """Return the names of the worst joints at the picture's sides, none over another, with a line to each."""
    lines, lowest = "", {False: 10.0, True: 10.0}  # below the title
    for n in sorted(worst, key=lambda n: float(ys[n])):
        right = bool(xs[n] >= _WIDTH / 2)
        y = lowest[right] = max(float(ys[n]) - 20, lowest[right] + 38)
        x, anchor, inner = (_WIDTH - 12, "end", _WIDTH - 95) if right else (12, "start", 95)
        lines += (
            f'<line x1="{inner}" y1="{y + 4:.1f}" x2="{xs[n]:.1f}" y2="{ys[n]:.1f}"/><text x="{x}" y="{y:.1f}" '
            f'text-anchor="{anchor}">{escape(layout.joints[n])}</text><text x="{x}" y="{y + 15:.1f}" '
            f'text-anchor="{anchor}">{_mm(errors.joint[n])}</text>'
        )
    return lines


def _mm(value: float) -> str:
    return f"{value:.0f} mm" if math.isfinite(value) else "never hidden"

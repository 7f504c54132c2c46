"""Errors of masked reconstruction by joint and by frame, strips of masks, and clips that play."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from smae import progress
from smae.data.store import Store
from smae.skeleton import Layout
from smae.train.config import RunConfig
from smae.train.objectives import Objective
from smae.viz.drawing import legend, player
from smae.viz.reconstruction import Reconstruction, reconstruct, scene_of
from smae.viz.report.feature_map import choose
from smae.viz.report.page import Floats, Series, bars, line_chart, missing, note
from smae.viz.scene import Scene

MAX_CLIPS = 256
"""Maximum test clips over which errors are averaged."""
CLIPS = 4
"""Clips that play on the page."""
SHADES = 8
"""Steps of the shade of an error in a strip; cells of one shade are one path."""
_BATCH = 64
_FRAME_STEP = 6
_NAMED = 5
_WIDTH, _HEIGHT, _EDGE, _SIDE = 460, 430, 38, 130


@dataclass(frozen=True, eq=False)
class Errors:
    """Mean distances of masked joints from the truth in millimetres; NaN where none was masked.

    Attributes:
        joint: float64 [V].
        frame: float64 [T].
        mean: over all masked joints.
        pose: float64 [V, 3], metres, to draw the errors on; it faces the viewer, y up.
        clips: number of clips.
    """

    joint: Floats
    frame: Floats
    mean: float
    pose: Floats
    clips: int


@dataclass(frozen=True, eq=False)
class ReconstructionSummary:
    """Masked clips, their scenes, the objective's remark; errors where it predicts positions."""

    errors: Errors | None
    clips: tuple[Reconstruction, ...]
    scenes: tuple[Scene, ...]
    note: str
    layout: Layout


def summarise(objective: Objective, store: Store, config: RunConfig) -> ReconstructionSummary | None:
    """Reconstruct test clips, masked as in training; None where no positions are masked."""
    split = store.training_split(config.protocol)
    # A run on a store without parts has no test clips: then the error is that of its train clips.
    test = split.test if len(split.test) else split.train
    shown = reconstruct(objective, store, config, clips=_of_different_classes(store, test))
    if not shown:
        return None
    errors, chosen, clips = None, choose(test, MAX_CLIPS), list[Reconstruction]()
    if shown[0].reconstructed is not None:
        batches = np.split(chosen, range(_BATCH, len(chosen), _BATCH))
        for batch in progress.track(batches, "reconstruction", unit="batches"):
            clips += reconstruct(objective, store, config, clips=batch)
        errors = mean_errors(clips, store.layout)
    scenes = tuple(scene_of(clip, objective, store, config) for clip in shown)
    return ReconstructionSummary(errors, tuple(shown), scenes, objective.preview_note, store.layout)


def mean_errors(clips: list[Reconstruction], layout: Layout) -> Errors:
    """Return the mean errors of clips; every masked joint of every frame and body counts once."""
    total = np.zeros(clips[0].error.shape[1:])
    count = np.zeros(total.shape)
    for clip in clips:
        total += np.nansum(clip.error, axis=0)
        count += clip.masked.sum(axis=0)
    return Errors(
        joint=_mean(total.sum(0), count.sum(0)),
        frame=_mean(total.sum(1), count.sum(1)),
        mean=float(_mean(total.sum(keepdims=True), count.sum(keepdims=True)).ravel()[0]),
        pose=_open_pose(clips, layout),
        clips=len(clips),
    )


def _mean(total: Floats, count: Floats) -> Floats:
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _open_pose(clips: list[Reconstruction], layout: Layout) -> Floats:
    """Return a tall and wide pose that faces the viewer: there joints hide each other least."""
    every = slice(None, None, _FRAME_STEP)
    poses = np.concatenate([clip.original[0, every][clip.present[0, every].all(1)] for clip in clips])
    if not len(poses):
        return np.asarray(clips[0].original[0, 0], np.float64)
    turned = np.stack([_face_viewer(pose, layout) for pose in poses.astype(np.float64)])
    best = int((3 * np.ptp(turned[..., 1], axis=1) + np.ptp(turned[..., 0], axis=1)).argmax())
    return np.asarray(turned[best])


def _face_viewer(pose: Floats, layout: Layout) -> Floats:
    """Return a pose [V, 3] rotated about the vertical, its left side on the picture's right."""
    if not layout.mirror:
        return pose
    left, right = np.array(layout.mirror).T
    across = (pose[left] - pose[right]).mean(0)
    angle = np.arctan2(across[2], across[0])
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return np.asarray(pose @ rotation.T)


def _of_different_classes(store: Store, test: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a few test clips, each of another class."""
    _, first = np.unique(store.clips.label[test], return_index=True)
    spread = np.linspace(0, len(first) - 1, min(CLIPS, len(first))).round().astype(int)
    return np.sort(test[first[spread]])


def draw_reconstruction(summary: ReconstructionSummary | None, *, what: str) -> str:
    """Return charts of the errors, and a player and a strip of each clip."""
    if summary is None:
        return missing(f"Nothing to draw: {what} gives no masked positions.")
    body, heading, full = note(summary.note), "Masked clips", _largest(summary.clips)
    if summary.errors is not None:
        body = _draw_errors(summary.errors, summary.layout, remark=summary.note)
        heading = "Reconstructed clips"
    clips = zip(summary.scenes, summary.clips, strict=True)
    players = "".join(
        _clip(scene, number, strips(clip, summary.layout, full=full)) for number, (scene, clip) in enumerate(clips)
    )
    return (
        f'{body}<h3>{heading}</h3><p class="legend">{legend(*summary.scenes)} Drag to rotate, hover over a joint for '
        f'its name. Grid: 50 cm.</p>{_strip_legend(full)}<div class="clips">{players}</div>'
        "<noscript><p>The animation needs JavaScript.</p></noscript>"
    )


def _draw_errors(errors: Errors, layout: Layout, *, remark: str) -> str:
    joints = layout.joints
    by_frame = Series("error, mm", np.arange(1.0, len(errors.frame) + 1), errors.frame)
    chart = line_chart("error by frame (mm)", [by_frame], x_label="frame", from_zero=True)
    order = np.argsort(-np.nan_to_num(errors.joint), kind="stable").tolist()
    rows = [(joints[n], float(errors.joint[n]), _words(errors, n)) for n in order]
    rows = [row for row in rows if math.isfinite(row[1])]
    full = max((value for _, value, _ in rows), default=1.0) or 1.0
    words = note(
        f"Mean joint error {errors.mean:.0f} mm, over the masked joints of {errors.clips:,} test "
        f"clips masked as in training. {remark}"
    )
    charts = f"<div>{skeleton_chart(errors, layout)}{chart}</div>"
    by_joint = f"<div><h3>Error by joint</h3>{bars(rows, full=full)}</div>"
    return f'{words}<div class="pair">{charts}{by_joint}</div>'


def _clip(scene: Scene, number: int, masks: str) -> str:
    facts = dict(scene.facts)
    words = f"{facts['masked']} masked"
    if error := facts.get("mean joint error"):
        words += f"; mean joint error {error}"
    title = f"<h3>{escape(scene.title)}<small>{escape(words)}</small></h3>"
    return f'<div class="clip">{title}{player(scene, number=number)}{masks}</div>'


def _largest(clips: Sequence[Reconstruction]) -> float:
    """Return the millimetres with the darkest shade, the 95th percentile; 0 without errors."""
    errors = np.concatenate([clip.error[clip.masked] for clip in clips])
    return float(np.nanpercentile(errors, 95)) if np.isfinite(errors).any() else 0.0


def _strip_legend(full: float) -> str:
    levels = range(1, SHADES + 1)
    shades = "".join(f'<i style="opacity:{_opacity(level):.2f}"></i>' for level in levels)
    masked = '<span class="cell masked"></span>masked'
    if full:
        masked = f'masked, error 0 mm <span class="scale">{shades}</span> {full:.0f} mm and more'
    return (
        '<p class="legend strip-legend">Below each clip: joints from top to bottom, frames from left to right; '
        f'<span class="cell visible"></span>visible, {masked}.</p>'
    )


def strips(clip: Reconstruction, layout: Layout, *, full: float) -> str:
    """Return an SVG for each present body: joints down, frames across, errors by shade.

    Args:
        clip: a masked clip.
        layout: of its joints.
        full: millimetres with the darkest shade.
    """
    error = np.nan_to_num(clip.error, nan=-1.0)
    step = np.clip(np.ceil(SHADES * error / (full or 1.0)), 1, SHADES)
    level = np.where(error < 0, 0, step).astype(int)
    # -1 absent, 0 visible, from 1 on masked; without a prediction all masked ones are equal.
    level = np.where(clip.present, np.where(clip.masked, np.maximum(level, 1), 0), -1)
    masked, others = np.where(error < 0, -3, np.rint(error)), np.where(clip.present, -1, -2)
    shown = np.where(clip.masked, masked, others).astype(int)
    bodies = [body for body in range(len(level)) if clip.present[body].any()]
    names = "".join(f"<span>{escape(name)}</span>" for name in layout.joints)
    body_words = {body: f"body {body + 1}, " * (len(bodies) > 1) for body in bodies}
    frames, joints = level.shape[1:]
    return "".join(
        f'<div class="masks" style="--rows:{joints}"><div class="names" aria-hidden="true">{names}</div>'
        f'<svg viewBox="0 0 {frames} {joints}" preserveAspectRatio="none" role="img" aria-label="what is masked" '
        f'data-strip="{escape(json.dumps({"names": layout.joints, "cells": shown[body].T.tolist()}))}">'
        f"{_runs(level[body].T, predicted=clip.reconstructed is not None)}</svg>"
        f"<small>{body_words[body]}frames 1 to {frames}</small></div>"
        for body in bodies
    )


def _runs(level: NDArray[np.int_], *, predicted: bool) -> str:
    """Return the cells [V, T] as horizontal lines, one path a level."""
    paths = ""
    for one in np.unique(level[level >= 0]).tolist():
        edges = np.diff(np.pad(level == one, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        starts, ends = np.argwhere(edges == 1).tolist(), np.argwhere(edges == -1).tolist()
        lines = zip(starts, ends, strict=True)
        drawn = "".join(f"M{start} {row}.5h{end - start}" for (row, start), (_, end) in lines)
        kind, look = "visible", ""
        if one:
            kind = "predicted" if predicted else "masked"
            look = f' stroke-opacity="{_opacity(one):.2f}"' * predicted
        paths += f'<path class="{kind}"{look} d="{drawn}"/>'
    return paths


def _opacity(level: int) -> float:
    return 0.12 + 0.88 * level / SHADES


def skeleton_chart(errors: Errors, layout: Layout) -> str:
    """Return an SVG skeleton whose joints show their errors by size; the worst are named."""
    x, y = errors.pose[:, 0], -errors.pose[:, 1]
    width, height = _WIDTH - 2 * _SIDE, _HEIGHT - 2 * _EDGE
    scale = min(width / max(np.ptp(x), 0.3), height / max(np.ptp(y), 0.3))
    xs = (x - (x.min() + x.max()) / 2) * scale + _WIDTH / 2
    ys = (y - (y.min() + y.max()) / 2) * scale + _HEIGHT / 2 + 8
    error = np.nan_to_num(errors.joint)
    share = error / (error.max() or 1.0)
    order = np.argsort(-share, kind="stable").tolist()
    bones = "".join(
        f'<line x1="{xs[a]:.1f}" y1="{ys[a]:.1f}" x2="{xs[b]:.1f}" y2="{ys[b]:.1f}"/>' for a, b in layout.bones
    )
    dots = "".join(
        f'<circle cx="{xs[n]:.1f}" cy="{ys[n]:.1f}" r="{3 + 9 * share[n]:.1f}" '
        f'fill-opacity="{0.25 + 0.7 * share[n]:.2f}"><title>{escape(layout.joints[n])}: {_words(errors, n)}</title>'
        "</circle>"
        for n in order
    )
    return (
        f'<svg class="skeleton" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="error by joint">'
        f'<text class="name" x="14" y="22">error by joint</text><g class="bones">{bones}</g><g class="leads">'
        f'{_labels(errors, layout, order[:_NAMED], xs, ys)}</g><g class="dots">{dots}</g></svg>'
    )


def _labels(errors: Errors, layout: Layout, joints: list[int], xs: Floats, ys: Floats) -> str:
    """Return names of joints at the sides of the picture, without overlaps, with a line to each."""
    # The first label stays below the title.
    labels, lowest = "", {False: 10.0, True: 10.0}
    for n in sorted(joints, key=lambda n: float(ys[n])):
        right = bool(xs[n] >= _WIDTH / 2)
        y = lowest[right] = max(float(ys[n]) - 20, lowest[right] + 38)
        x, anchor, inner = [(12, "start", 95), (_WIDTH - 12, "end", _WIDTH - 95)][right]
        labels += (
            f'<line x1="{inner}" y1="{y + 4:.1f}" x2="{xs[n]:.1f}" y2="{ys[n]:.1f}"/><text x="{x}" y="{y:.1f}" '
            f'text-anchor="{anchor}">{escape(layout.joints[n])}</text><text x="{x}" y="{y + 15:.1f}" '
            f'text-anchor="{anchor}">{_words(errors, n)}</text>'
        )
    return labels


def _words(errors: Errors, joint: int) -> str:
    error = float(errors.joint[joint])
    return f"{error:.0f} mm" if math.isfinite(error) else "never masked"

"""The run page: one HTML file, complete in itself, that shows what a run did; made from plain data.

Nothing is loaded from anywhere: style, script, curves and moving skeletons lie in the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smae.data.recording import MISSING
from smae.errors import DataError
from smae.train.page_charts import confusion_chart, line_chart

PRETRAINED = "pre-trained encoder"


class LossPoint(NamedTuple):
    """One logged step: number, epoch (may be a fraction), loss, learning rate, clips per second."""

    step: int
    epoch: float
    loss: float
    lr: float
    clips_per_second: float


@dataclass(frozen=True)
class Facts:
    """A titled list of (label, value) pairs, such as "On what": ("device", "cpu")."""

    title: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class ResultRow:
    """One score. ``what``: "pre-trained encoder", or the baseline it is compared with; top-1 and top-5 in [0, 1]."""

    protocol: str
    mode: str
    what: str
    top1: float
    top5: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ConfusionPicture:
    """``matrix`` int [K, K] of test clips, true class by predicted class; ``classes`` K names."""

    classes: Sequence[str]
    matrix: NDArray[np.int64]


@dataclass(frozen=True)
class ClipPicture:
    """One clip before masking, masked, and filled in again.

    Attributes:
        title: what stands above it.
        original: float [M, T, V, 3], metres; a body is not drawn in frames where it is NaN or all zero.
        masked: bool [M, T, V], true where the joint was hidden from the encoder.
        reconstructed: float [M, T, V, 3], metres; only its hidden joints are shown.
        bones: (child, parent) pairs.
        joints: names for pointing at; numbers are shown without.
        state: uint8 [M, T, V] as in ``Clip``; joints marked ``MISSING`` are not drawn.
    """

    title: str
    original: NDArray[np.float32]
    masked: NDArray[np.bool_]
    reconstructed: NDArray[np.float32]
    bones: Sequence[tuple[int, int]]
    joints: Sequence[str] = ()
    state: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class RunPage:
    """All that the page shows; empty parts are left out of it.

    ``clips_note`` says what one should know about the reconstructions, ``confusion_of`` whose confusions are shown.
    """

    title: str
    facts: Sequence[Facts] = ()
    losses: Sequence[LossPoint] = ()
    results: Sequence[ResultRow] = ()
    confusion: ConfusionPicture | None = None
    confusion_of: str = ""
    clips: Sequence[ClipPicture] = ()
    clips_note: str = ""


def render_page(run: RunPage) -> str:
    """Return the page as one HTML string.

    Raises:
        DataError: a score outside [0, 1], or arrays whose shapes do not fit each other.
    """
    parts = {
        "title": escape(run.title),
        "headline": _headline(run.results),
        "facts": "".join(map(_facts, run.facts)),
        "results": _section("results", "Results", _results(run.results)) if run.results else "",
        "curves": _section("curves", "Training", _curves(run.losses)) if run.losses else "",
        "confusion": _section("confusion", "Confusion", _confusion(run.confusion, run.confusion_of))
        if run.confusion
        else "",
        "clips": _section("clips", "Masked and filled in", _clips(run.clips, run.clips_note)) if run.clips else "",
        "data": _json([_clip_data(clip) for clip in run.clips]),
    }
    template = files("smae.train").joinpath("page_template.html").read_text("utf-8")
    # One pass over the template: text put in is never searched for places again.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>{body}</section>'


def _facts(facts: Facts) -> str:
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in facts.rows)
    return f'<div class="card"><h2>{escape(facts.title)}</h2><dl>{rows}</dl></div>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _headline(results: Sequence[ResultRow]) -> str:
    """Return the first pre-trained result beside its baselines, as large figures."""
    lead = next((row for row in results if row.what == PRETRAINED), None)
    if lead is None:
        return ""
    peers = [row for row in results if (row.protocol, row.mode) == (lead.protocol, lead.mode)]
    figures = "".join(
        f'<div class="figure{" own" if row is lead else ""}"><b>{_percent(row.top1)}</b>{escape(row.what)}</div>'
        for row in [lead, *(row for row in peers if row is not lead)]
    )
    return (
        f'<p class="over">{escape(lead.protocol)} · {escape(lead.mode)} · top-1</p><div class="figures">{figures}</div>'
    )


def _results(results: Sequence[ResultRow]) -> str:
    body = []
    for (protocol, mode), rows in groupby(results, key=lambda row: (row.protocol, row.mode)):
        name = f"{escape(protocol)} <span>{escape(mode)}</span>"
        body.append(f'<tr class="group"><th colspan="3" scope="rowgroup">{name}</th></tr>')
        body += map(_result, rows)
    head = '<thead><tr><th scope="col">what</th><th scope="col">top-1</th><th scope="col">top-5</th></tr></thead>'
    return f'<table class="results">{head}<tbody>{"".join(body)}</tbody></table>'


def _result(row: ResultRow) -> str:
    for score in (row.top1, row.top5):
        if score is not None and not 0 <= score <= 1:
            raise DataError(f"result '{row.protocol}' of '{row.what}': expected a share in [0, 1], found {score}")
    own = ' class="own"' if row.what == PRETRAINED else ""
    note = f"<small>{escape(row.note)}</small>" if row.note else ""
    bar = f'<span class="bar"><i style="width:{100 * row.top1:.1f}%"></i></span>'
    top5 = "–" if row.top5 is None else _percent(row.top5)
    return f"<tr{own}><td>{escape(row.what)}{note}</td><td>{bar}{_percent(row.top1)}</td><td>{top5}</td></tr>"


def _curves(losses: Sequence[LossPoint]) -> str:
    table = np.array(losses, dtype=np.float64)
    loss = line_chart("loss", table[:, 0], table[:, 2], smooth=True)
    rate = line_chart("learning rate", table[:, 0], table[:, 3])
    speed = np.nanmedian(table[:, 4])
    last = losses[-1]
    progress = f"{last.step:,} steps, {last.epoch:g} epochs begun; last loss {last.loss:.4g}"
    text = f"{progress}; median {speed:,.0f} clips per second."
    return f'<div class="charts">{loss}{rate}</div><p class="note">{text}</p>'


def _confusion(picture: ConfusionPicture, whose: str) -> str:
    matrix, count = np.asarray(picture.matrix), len(picture.classes)
    if matrix.shape != (count, count):
        raise DataError(f"confusion matrix: expected shape {(count, count)} for {count} classes, found {matrix.shape}")
    return (
        f'<div class="scroll">{confusion_chart(picture.classes, matrix)}</div>'
        f'<p class="note" id="cell">{escape(whose)} Rows: true class; columns: predicted. Shade: share of the row. '
        "Point at a cell for its count.</p>"
    )


def _clips(clips: Sequence[ClipPicture], note: str) -> str:
    panels = "".join(
        f'<div class="panel"><canvas data-panel="{number}" role="img" aria-label="{name} skeleton"></canvas>'
        f"<span>{name}</span></div>"
        for number, name in enumerate(("original", "masked", "filled in"))
    )
    legend = (
        '<p class="note"><span class="key seen">seen</span> <span class="key hidden">hidden</span> '
        '<span class="key filled">filled in by the decoder</span> Drag to turn, point at a joint for its name.</p>'
        + (f'<p class="note">{escape(note)}</p>' if note else "")
    )
    figures = "".join(
        f'<figure class="clip" data-clip="{number}"><figcaption>{escape(clip.title)}<small>{_error(clip)}</small>'
        f'</figcaption><div class="panels">{panels}</div><div class="controls"><button type="button">Pause</button>'
        f'<input type="range" min="0" max="{clip.original.shape[1] - 1}" value="0" aria-label="frame">'
        f"<output>1</output></div></figure>"
        for number, clip in enumerate(clips)
    )
    return legend + figures + "<noscript><p>The moving skeletons need JavaScript.</p></noscript>"


def _present(clip: ClipPicture) -> NDArray[np.bool_]:
    """Return bool [M, T, V]: joints that can be drawn."""
    shape = clip.original.shape
    if len(shape) != 4 or clip.reconstructed.shape != shape or clip.masked.shape != shape[:3]:
        raise DataError(
            f"clip '{clip.title}': expected original [M, T, V, 3], reconstructed alike and masked [M, T, V], found "
            f"{shape}, {clip.reconstructed.shape}, {clip.masked.shape}"
        )
    seen = np.isfinite(clip.original).all(-1) & (clip.original != 0).any((-1, -2))[..., None]
    if clip.state is not None:
        seen &= clip.state != MISSING
    return np.asarray(seen, dtype=np.bool_)


def _filled(clip: ClipPicture) -> NDArray[np.bool_]:
    """Return bool [M, T, V]: joints that were hidden and can be drawn filled in."""
    return _present(clip) & clip.masked & np.isfinite(clip.reconstructed).all(-1)


def _error(clip: ClipPicture) -> str:
    """Return how far the filled-in joints are from the truth, in words."""
    filled = _filled(clip)
    if not filled.any():
        return "nothing hidden"
    away = np.linalg.norm((clip.original - clip.reconstructed)[filled], axis=-1).mean()
    share = filled.sum() / _present(clip).sum()
    return f"{100 * share:.0f} % hidden, filled in {1000 * away:.0f} mm off on average"


def _clip_data(clip: ClipPicture) -> dict[str, object]:
    """Return what the script needs, in whole millimetres: reconstructions only where something was hidden."""
    present, filled = _present(clip), _filled(clip)
    bodies, frames, joints = present.shape
    # 0 not there, 1 seen, 2 hidden and never filled in, 3 hidden and filled in.
    kind = np.where(~present, 0, np.where(filled, 3, np.where(clip.masked, 2, 1)))
    return {
        "shape": [bodies, frames, joints],
        "kind": "".join(map(str, kind.ravel().tolist())),
        "truth": _millimetres(clip.original[present]),
        "filled": _millimetres(clip.reconstructed[filled]),
        "bones": [[int(a), int(b)] for a, b in clip.bones],
        "joints": [str(name) for name in clip.joints] or [f"joint {number + 1}" for number in range(joints)],
    }


def _millimetres(places: NDArray[np.float32]) -> list[int]:
    numbers: list[int] = np.rint(places.astype(np.float64) * 1000).astype(np.int64).ravel().tolist()
    return numbers


def _json(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

"""Results and clips for tests of reports, and a checker of HTML."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from smae.eval.results import PRETRAINED, RANDOM, Result, Row
from smae.skeleton import NTU25
from smae.viz.reconstruction import Reconstruction

NASTY = "</script><img src=x onerror=alert(1)>&\"'{{data}}"
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Checker(HTMLParser):
    """Checks that tags are closed in order, and collects tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def data_of(page: str) -> Any:
    """Return what a page gives its script."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def result(name: str = "linear", *, right: float = 0.75, clips: int = 40, store: str = "ab", **changes: Any) -> Result:
    """Return a result on four classes in which the first ``right`` of the clips are correct."""
    label = np.arange(clips) % 4
    predicted = np.where(np.arange(clips) < right * clips, label, (label + 1) % 4)
    confusion = np.zeros((4, 4), np.int64)
    np.add.at(confusion, (label, predicted), 1)
    rows = (
        Row(PRETRAINED, right, 0.99, 0.013, (right - 0.1, min(1.0, right + 0.1)), 3),
        Row(RANDOM, 0.5, None, None, (0.4, 0.6)),
        Row("chance", 0.25),
    )
    content = {
        "protocol": "ntu60-xsub", "mode": name, "rows": rows, "classes": ("A001", "A002", "A003", "A004"),
        "confusion": confusion, "test": np.arange(clips), "label": label, "predicted": predicted, "store": store,
    }  # fmt: skip
    return Result(**(content | changes))


def result_json(one: Result) -> dict[str, Any]:
    """Return a result as ``smae eval`` writes it."""
    return {
        "protocol": one.protocol, "mode": one.mode, "classes": list(one.classes), "test": one.test.tolist(),
        "label": one.label.tolist(), "predicted": one.predicted.tolist(), "confusion": one.confusion.tolist(),
        "rows": [
            {"mode": one.mode, "what": row.what, "top1": row.top1, "top5": row.top5, "std": row.std, "seeds": row.seeds,
             "interval": list(row.interval) if row.interval else None, "selection": "last"}
            for row in one.rows
        ],
        "store": one.store, "store_mode": "reference", "seen_in_training": 0,
    }  # fmt: skip


def reconstruction(*, bodies: int = 1, frames: int = 6, seed: int = 0, error: float = 0.03) -> Reconstruction:
    """Return a clip of random positions with most joints masked; predictions are off by ``error`` metres."""
    rng = np.random.default_rng(seed)
    original = rng.normal(size=(bodies, frames, len(NTU25), 3)).astype(np.float32)
    masked = rng.uniform(size=original.shape[:3]) < 0.8
    predicted = original + np.float32(error) * masked[..., None] * np.array([1, 0, 0], np.float32)
    return Reconstruction(0, original, masked, predicted, np.ones_like(masked))

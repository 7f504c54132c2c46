"""Results and clips for tests of reports, and a checker of HTML."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from smae.eval.records import parse_record
from smae.eval.results import Result
from smae.skeleton import NTU25
from smae.viz.reconstruction import Reconstruction
from tests.eval.evaluated import record_json

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


def result(mode: str = "linear", *, right: float = 0.75, seeds: int = 1, **changes: Any) -> Result:
    """Return a result on four classes in which the first ``right`` of the 40 clips are correct."""
    label = np.arange(40) % 4
    predicted = np.where(np.arange(40) < right * 40, label, (label + 1) % 4)
    made = [record_json(mode=mode, predicted=predicted, **{"seed": seed} | changes) for seed in range(seeds)]
    return Result(tuple(parse_record(f"{mode}-{seed}", content) for seed, content in enumerate(made)))


def reconstruction(*, bodies: int = 1, frames: int = 6, seed: int = 0, error: float = 0.03) -> Reconstruction:
    """Return a clip of random positions with most joints masked; predictions are off by ``error`` metres."""
    rng = np.random.default_rng(seed)
    original = rng.normal(size=(bodies, frames, len(NTU25), 3)).astype(np.float32)
    masked = rng.uniform(size=original.shape[:3]) < 0.8
    predicted = original + np.float32(error) * masked[..., None] * np.array([1, 0, 0], np.float32)
    return Reconstruction(0, original, masked, predicted, np.ones_like(masked))

"""The page of a scene: one HTML file, complete in itself, in which skeletons play and turn."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from smae.drawing.pictures import BODIES, KINDS
from smae.drawing.scene import (
    ABSENT,
    HIDDEN,
    KIND_WORDS,
    NOT_TRACKED,
    PITCH,
    RATE,
    ROLES,
    TRACKED,
    YAW,
    Camera,
    Panel,
    Scene,
)


def render_page(scene: Scene) -> str:
    """Return the page as one HTML string; it loads nothing."""
    panels = "".join(
        f'<figure><figcaption>{escape(panel.title)}<small data-frame="{number}"></small></figcaption><canvas '
        f'data-panel="{number}" role="img" aria-label="{escape(panel.title)}: moving skeleton"></canvas></figure>'
        for number, panel in enumerate(scene.panels)
    )
    parts = {
        "title": escape(scene.title),
        "panels": panels,
        "count": "one" if len(scene.panels) == 1 else "several",
        "last": str(scene.frames - 1),
        "legend": _legend(scene),
        "facts": "".join(
            f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in scene.facts
        ),
        "notes": "".join(f"<p>{escape(note)}</p>" for note in scene.notes),
        "data": _json(page_data(scene)),
    }
    template = files("smae.drawing").joinpath("page.html").read_text("utf-8")
    # One pass over the template: text put in is never searched for places again.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def page_data(scene: Scene) -> dict[str, Any]:
    """Return what the page's script needs; places are whole millimetres, only those of joints that are drawn."""
    return {
        "rate": RATE,
        "frames": scene.frames,
        "realTime": scene.real_time,
        "yaw": YAW,
        "pitch": PITCH,
        "absent": ABSENT,
        "words": KIND_WORDS,
        "bodyColours": [_hex(colour) for colour in BODIES],
        "kindColours": {kind: _hex(colour) for kind, colour in KINDS.items()},
        "joints": scene.layout.joints,
        "bones": scene.layout.bones,
        "panels": [_panel(panel, camera) for panel, camera in zip(scene.panels, scene.cameras, strict=True)],
    }


def _panel(panel: Panel, camera: Camera) -> dict[str, Any]:
    seen = panel.kind != ABSENT
    places = np.rint(panel.joints[seen].astype(np.float64) * 1000).astype(np.int64)
    return {
        "frames": panel.frames,
        "bodies": panel.bodies,
        "roles": panel.roles,
        "ghost": panel.ghost,
        "middle": [round(float(value) * 1000) for value in camera.middle],
        "wide": round(camera.wide * 1000),
        "high": round(camera.high * 1000),
        "floor": round(float(panel.box[0, 1]) * 1000),
        "kind": "".join(map(str, panel.kind.ravel().tolist())),
        "places": places.ravel().tolist(),
    }


def _legend(scene: Scene) -> str:
    hollow = (NOT_TRACKED, HIDDEN)
    keys = [(ROLES[role], _hex(BODIES[role]), f'body" data-role="{role}') for role in scene.roles]
    keys += [
        (KIND_WORDS[kind], _hex(KINDS[kind]), "hollow" if kind in hollow else "")
        for kind in sorted(scene.kinds, reverse=True)
        if kind != TRACKED
    ]
    return "".join(
        f'<span class="key {look}" style="--of:{colour}">{escape(word)}</span>' for word, colour, look in keys
    )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _json(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

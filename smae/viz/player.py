"""The page of a scene: one HTML file, complete in itself, in which skeletons play and turn."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from smae.viz.pictures import BODIES, KINDS
from smae.viz.scene import ABSENT, HIDDEN, KIND_WORDS, NOT_TRACKED, PITCH, RATE, ROLES, TRACKED, YAW, Scene

SPEEDS = {0.25: "¼", 0.5: "½", 1: "1×", 2: "2×"}
"""How fast a player can play, and what that is called."""


def render_page(scene: Scene) -> str:
    """Return the page as one HTML string; it loads nothing."""
    parts = {
        "title": escape(scene.title),
        "style": page_file("player.css"),
        "script": page_file("player.js"),
        "player": player(scene, alone=True),
        "count": "one" if len(scene.panels) == 1 else "several",
        "legend": legend(scene),
        "facts": "".join(
            f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in scene.facts
        ),
        "notes": "".join(f"<p>{escape(note)}</p>" for note in scene.notes),
        "data": as_json(page_data(scene)),
    }
    return fill(page_file("player.html"), parts)


def page_file(name: str) -> str:
    """Return a file that lies here: a template, style or script."""
    return files("smae.viz").joinpath(name).read_text("utf-8")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with its places ``{{name}}`` filled, in one pass: text put in is never searched for more."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def player(scene: Scene, *, alone: bool = False, number: int = 0) -> str:
    """Return the HTML of a scene's panels and controls; ``player.js`` makes them move.

    Args:
        scene: what is played.
        alone: the page shows nothing else: keys and the wheel are the player's.
        number: of the scene among the page's data.
    """
    panels = "".join(
        f'<figure><figcaption>{escape(panel.title)}<small data-frame="{place}"></small></figcaption><canvas '
        f'data-panel="{place}" role="img" aria-label="{escape(panel.title)}: moving skeleton"></canvas></figure>'
        for place, panel in enumerate(scene.panels)
    )
    speeds = "".join(
        f'<option value="{value}"{" selected" if value == 1 else ""}>{word}</option>' for value, word in SPEEDS.items()
    )
    return (
        f'<div class="player" data-alone="{"yes" if alone else "no"}" data-scene="{number}">'
        f'<div class="panels">{panels}</div><div class="controls">'
        f'<input type="range" min="0" max="{scene.frames - 1}" value="0" aria-label="frame">'
        '<button type="button" class="play">Play</button>'
        f'<select class="speed" aria-label="speed">{speeds}</select>'
        '<button type="button" class="reset">Reset</button><output></output></div></div>'
    )


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
        "panels": [_panel(scene, number) for number in range(len(scene.panels))],
    }


def _panel(scene: Scene, number: int) -> dict[str, Any]:
    panel, camera = scene.panels[number], scene.cameras[number]
    same = _same(scene, number)
    seen = panel.kind != ABSENT
    places = np.rint(panel.joints[seen].astype(np.float64) * 1000).astype(np.int64) if same < 0 else np.empty(0)
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
        "same": same,
        "places": places.ravel().tolist(),
    }


def _same(scene: Scene, number: int) -> int:
    """Return which earlier panel has the very same places, so that they travel once; -1 for none."""
    panel = scene.panels[number]
    for earlier, other in enumerate(scene.panels[:number]):
        if other.joints is panel.joints and np.array_equal(other.kind == ABSENT, panel.kind == ABSENT):
            return earlier
    return -1


def legend(*scenes: Scene) -> str:
    """Return the HTML of a legend that names what is drawn in any of the scenes."""
    roles = sorted({role for scene in scenes for role in scene.roles})
    kinds = sorted({kind for scene in scenes for kind in scene.kinds}, reverse=True)
    hollow = (NOT_TRACKED, HIDDEN)
    keys = [(ROLES[role], _hex(BODIES[role]), f'body" data-role="{role}') for role in roles]
    keys += [
        (KIND_WORDS[kind], _hex(KINDS[kind]), "hollow" if kind in hollow else "") for kind in kinds if kind != TRACKED
    ]
    return "".join(
        f'<span class="key {look}" style="--of:{colour}">{escape(word)}</span>' for word, colour, look in keys
    )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def as_json(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

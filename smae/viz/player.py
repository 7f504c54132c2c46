"""An interactive 3D page of a scene, in one self-contained HTML file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from smae import __version__
from smae.viz.pictures import BODIES, KINDS, Colour
from smae.viz.scene import ABSENT, KIND_WORDS, MASKED, NOT_TRACKED, PITCH, RATE, ROLES, TRACKED, YAW, Scene


def render_page(scene: Scene) -> str:
    """Return the page of a scene as one HTML string; it loads nothing."""
    facts = [(escape(label), escape(value)) for label, value in scene.facts]
    parts = {
        "title": escape(scene.title),
        "style": page_file("player.css"),
        "script": page_file("player.js"),
        "player": player(scene, alone=True),
        "count": "one" if len(scene.panels) == 1 else "several",
        "legend": legend(scene),
        "facts": "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in facts),
        "notes": "".join(f"<p>{escape(note)}</p>" for note in scene.notes),
        "data": as_json(page_data(scene)),
    }
    return fill_template(page_file("player.html"), parts)


def page_file(name: str) -> str:
    """Return a template, style or script of this package."""
    return files("smae.viz").joinpath(name).read_text("utf-8")


def fill_template(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with each ``{{name}}`` replaced once: inserted text is not expanded."""
    values = {**parts, "version": __version__}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def player(scene: Scene, *, alone: bool = False, number: int = 0) -> str:
    """Return the HTML of a scene's panels and controls; ``number`` is its index in the page's data.

    A player that is ``alone`` on its page takes keys and the mouse wheel.
    """
    panels = "".join(
        f'<figure><figcaption>{escape(panel.title)}<small data-frame="{n}"></small></figcaption><canvas '
        f'data-panel="{n}" role="img" aria-label="{escape(panel.title)}: animated skeleton"></canvas></figure>'
        for n, panel in enumerate(scene.panels)
    )
    return (
        f'<div class="player" data-alone="{"yes" if alone else "no"}" data-scene="{number}">'
        f'<div class="panels">{panels}</div><div class="controls">'
        f'<input type="range" min="0" max="{scene.frames - 1}" value="0" aria-label="frame">'
        '<button type="button" class="play">Play</button>'
        '<select class="speed" aria-label="speed"><option value="0.25">¼</option><option value="0.5">½</option>'
        '<option value="1" selected>1×</option><option value="2">2×</option></select>'
        '<button type="button" class="reset">Reset view</button><output></output></div></div>'
    )


def page_data(scene: Scene) -> dict[str, Any]:
    """Return the data of the page's script; positions of drawn joints in whole millimetres."""
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
        "panels": [_panel_data(scene, number) for number in range(len(scene.panels))],
    }


def _panel_data(scene: Scene, number: int) -> dict[str, Any]:
    panel, camera = scene.panels[number], scene.cameras[number]
    drawn, same_as, positions = panel.kind != ABSENT, -1, list[int]()
    # An earlier panel with the same positions carries them for both.
    for earlier, other in enumerate(scene.panels[:number]):
        if other.joints is panel.joints and np.array_equal(other.kind != ABSENT, drawn):
            same_as = earlier
            break
    else:
        millimetres = np.rint(panel.joints[drawn].astype(np.float64) * 1000)
        positions = millimetres.astype(np.int64).ravel().tolist()
    return {
        "frames": panel.frames,
        "bodies": panel.bodies,
        "roles": panel.roles,
        "ghost": panel.ghost,
        "centre": [round(float(value) * 1000) for value in camera.centre],
        "width": round(camera.width * 1000),
        "height": round(camera.height * 1000),
        "ground": round(float(panel.box[0, 1]) * 1000),
        "kind": "".join(map(str, panel.kind.ravel().tolist())),
        "sameAs": same_as,
        "positions": positions,
    }


def legend(*scenes: Scene) -> str:
    """Return the HTML of a legend of the bodies and joints drawn in any of the scenes."""
    keys = [
        (ROLES[role], BODIES[role], f'body" data-role="{role}')
        for role in sorted({role for scene in scenes for role in scene.roles})
    ]
    looks = {NOT_TRACKED: "hollow", MASKED: "hollow"}
    keys += [
        (KIND_WORDS[kind], KINDS[kind], looks.get(kind, ""))
        for kind in sorted({kind for scene in scenes for kind in scene.kinds} - {TRACKED}, reverse=True)
    ]
    return "".join(f'<span class="key {look}" style="--of:{_hex(colour)}">{word}</span>' for word, colour, look in keys)


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def as_json(value: object) -> str:
    """Return JSON that cannot end the script element around it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

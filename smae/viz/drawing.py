"""Drawings of a scene: an interactive 3D page in one HTML file; GIF, PNG, SVG and PDF.

GIF and PNG are drawn with Pillow at twice the size and reduced; SVG and PDF with matplotlib.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smae import __version__, progress
from smae.data.raw.recording import RATE
from smae.viz.scene import (
    ABSENT,
    INFERRED,
    KIND_WORDS,
    MASKED,
    NOT_TRACKED,
    PITCH,
    RECONSTRUCTED,
    ROLES,
    TRACKED,
    YAW,
    Panel,
    Scene,
)

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

PAPER, INK, QUIET, GHOST = (251, 250, 247), (29, 36, 41), (102, 114, 122), (196, 204, 207)
BODIES: tuple[Colour, ...] = ((15, 118, 110), (79, 70, 187), (146, 84, 60))
"""Colours of bodies by role, also on the page."""
KINDS: dict[int, Colour] = {
    INFERRED: (224, 142, 11),
    NOT_TRACKED: (204, 37, 48),
    MASKED: (170, 180, 184),
    RECONSTRUCTED: (217, 72, 15),
}
"""Colours of joints that do not have their body's colour."""

GIF_FRAMES = 100
"""Maximum frames of a GIF; of longer scenes it shows every second one, every third, ..."""
POSES = 8
"""Poses of a strip."""

_SCALE = 2
_DOTS = 96
"""Dots per inch of SVG and PDF, those of CSS."""
_POINT = 72 / _DOTS / _SCALE
_HEAD, _FOOT, _PAD = 46, 26, 8
_PANEL_HEIGHT = 340


def joint_colour(kind: int, role: int) -> Colour:
    """Return the colour of a joint."""
    return KINDS.get(kind, BODIES[role])


def draw_gif(scene: Scene) -> bytes:
    """Return the scene as a looping GIF: its panels side by side, a caption and a legend."""
    width = {1: 400, 2: 320}.get(len(scene.panels), 260)
    step = -(-scene.frames // GIF_FRAMES)
    size = (len(scene.panels) * width, _HEAD + _PANEL_HEIGHT + _FOOT)
    palette = _palette()
    images = []
    for frame in progress.track(range(0, scene.frames, step), "draw", unit="frames"):
        canvas = _Canvas(size)
        for number, panel in enumerate(scene.panels):
            canvas.panel(scene, number, frame, box=(number * width, _HEAD, width, _PANEL_HEIGHT))
            canvas.text((number * width + _PAD, 25), panel.title, QUIET)
        canvas.frame(scene)
        images.append(canvas.finish().quantize(palette=palette, dither=Image.Dither.NONE))
    out = BytesIO()
    # GIF counts in hundredths of a second.
    duration = round(1000 * step / RATE, -1)
    images[0].save(out, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0, optimize=False)
    return out.getvalue()


def draw_strip(scene: Scene, *, form: str = "png") -> bytes:
    """Return frames of the scene as ``png``, ``svg`` or ``pdf``: time across, a row a panel."""
    frames = scene.sample_frames(POSES)
    shape = scene.cameras[0].width / scene.cameras[0].height
    width = round(min(170.0, max(110.0, 200 * shape)))
    height = round(min(200.0, max(120.0, 1.1 * width / shape)))
    size = max(width * len(frames), 420), _HEAD + len(scene.panels) * (height + 22) + _FOOT
    canvas = _Canvas(size, None if form == "png" else _VectorPen(size))
    for row, panel in enumerate(scene.panels):
        top = 25 + row * (height + 22)
        canvas.text((_PAD, top), panel.title, QUIET)
        for column, frame in enumerate(frames):
            canvas.panel(scene, row, frame, box=(column * width, top + 21, width, height))
    for column, frame in enumerate(frames):
        canvas.text((column * width + _PAD, canvas.size[1] - 2 * _FOOT + 8), scene.time_label(frame), QUIET)
    canvas.frame(scene)
    if isinstance(canvas.pen, _VectorPen):
        return canvas.pen.save(form, title=scene.title)
    out = BytesIO()
    canvas.finish().quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


class _Canvas:
    """An image being drawn; coordinates are those of the finished size."""

    def __init__(self, size: tuple[int, int], pen: _VectorPen | None = None) -> None:
        self.size = size
        self.image = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), PAPER)
        self.pen = pen or ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(13 * _SCALE)

    def finish(self) -> Image.Image:
        return self.image.reduce(_SCALE)

    def frame(self, scene: Scene) -> None:
        """Draw the title above the panels and the legend below them."""
        self.text((_PAD, 6), scene.title, INK, max_width=self.size[0] - 2 * _PAD)
        x, y = float(_PAD), self.size[1] - _FOOT + 5
        keys = [(ROLES[role], TRACKED, role) for role in scene.roles]
        keys += [(KIND_WORDS[kind], kind, 0) for kind in reversed(scene.kinds) if kind != TRACKED]
        for words, kind, role in keys:
            self._dot((x + 4) * _SCALE, (y + 8) * _SCALE, 4 * _SCALE, kind, role)
            x += 14 + self.text((round(x) + 13, y), words, QUIET) + 16

    def text(self, at: tuple[int, int], words: str, colour: Colour, *, max_width: int = 0) -> float:
        """Write words, shortened to ``max_width`` where given, and return their width."""
        while max_width and self.pen.textlength(words, self.font) > max_width * _SCALE and len(words) > 1:
            words = words.rstrip("…")[:-1] + "…"
        self.pen.text((at[0] * _SCALE, at[1] * _SCALE), words, colour, self.font)
        return self.pen.textlength(words, self.font) / _SCALE

    def panel(self, scene: Scene, number: int, frame: int, *, box: Box) -> None:
        """Draw the bodies of a panel at a frame of the scene, over those of its ghost."""
        panel = scene.panels[number]
        layers = [(panel, False)]
        if panel.ghost >= 0:
            layers.insert(0, (scene.panels[panel.ghost], True))
        for layer, faint in layers:
            for body in range(len(layer.bodies)):
                self._body(scene, layer, number, body, scene.frame_of(layer, frame), box=box, faint=faint)

    def _body(self, scene: Scene, panel: Panel, number: int, body: int, frame: int, *, box: Box, faint: bool) -> None:
        left, top, width, height = (value * _SCALE for value in box)
        kind, role = panel.kind[body, frame], panel.roles[body]
        drawn = kind != ABSENT
        pixels = np.zeros((len(kind), 2))
        pixels[drawn] = scene.cameras[number].project(panel.joints[body, frame][drawn], width, height)
        pixels += (left, top)
        thick = max(2, round(min(width, height) / 90))
        for a, b in scene.layout.bones:
            if not (drawn[a] and drawn[b]):
                continue
            colour, bone_width = BODIES[role], thick
            if faint or MASKED in (kind[a], kind[b]):
                colour, bone_width = GHOST, max(_SCALE, thick // 2)
            elif RECONSTRUCTED in (kind[a], kind[b]):
                colour = KINDS[RECONSTRUCTED]
            self.pen.line((*pixels[a].tolist(), *pixels[b].tolist()), colour, bone_width)
        if not faint:
            for joint in np.flatnonzero(drawn).tolist():
                x, y = pixels[joint].tolist()
                self._dot(x, y, thick * 1.25, int(kind[joint]), role)

    def _dot(self, x: float, y: float, radius: float, kind: int, role: int) -> None:
        colour, circle = joint_colour(kind, role), (x - radius, y - radius, x + radius, y + radius)
        if kind in (NOT_TRACKED, MASKED):
            self.pen.ellipse(circle, PAPER, colour, width=_SCALE)
        else:
            self.pen.ellipse(circle, colour)


class _VectorPen:
    """Draws on a figure of matplotlib with those methods of Pillow's ``ImageDraw`` in use here."""

    def __init__(self, size: tuple[int, int]) -> None:
        from matplotlib.figure import Figure

        self._figure = Figure((size[0] / _DOTS, size[1] / _DOTS), facecolor="white")
        self._axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set(xlim=(0, size[0] * _SCALE), ylim=(size[1] * _SCALE, 0))
        self._axes.set_axis_off()
        # Later parts are drawn over earlier ones: matplotlib would draw all text last.
        self._order = 0

    def _style(self, colour: Colour, width: float) -> dict[str, Any]:
        self._order += 1
        return {"color": _fraction(colour), "linewidth": width * _POINT, "zorder": self._order}

    def line(self, xy: Sequence[float], fill: Colour, width: float) -> None:
        from matplotlib.lines import Line2D

        look = self._style(fill, width)
        self._axes.add_line(Line2D(xy[::2], xy[1::2], solid_capstyle="round", **look))

    def ellipse(self, xy: Sequence[float], fill: Colour, outline: Colour | None = None, width: float = 0) -> None:
        from matplotlib.lines import Line2D

        left, top, right, bottom = xy
        # A marker, since an SVG holds it once. Inside it is white as the figure is.
        look = self._style(outline or fill, width)
        dot = Line2D([(left + right) / 2], [(top + bottom) / 2], marker="o", **look)
        dot.set_markersize((right - left - width) * _POINT)
        dot.set_markeredgewidth(width * _POINT)
        if fill == PAPER:
            dot.set_markerfacecolor("white")
        self._axes.add_line(dot)

    def text(self, xy: tuple[float, float], text: str, fill: Colour, font: Any) -> None:
        self._order += 1
        look = {"color": _fraction(fill), "fontsize": font.size * _POINT, "zorder": self._order}
        # A dollar sign begins no formula.
        self._axes.text(xy[0], xy[1] + 0.93 * font.size, text, va="baseline", parse_math=False, **look)

    def textlength(self, text: str, font: Any) -> float:
        from matplotlib.textpath import TextPath

        # A path has no width where nothing is drawn.
        if not text.strip():
            return 0.0
        return float(TextPath((0, 0), text, size=font.size).get_extents().width)

    def save(self, form: str, *, title: str) -> bytes:
        """Return the picture as ``svg`` or ``pdf``; equal scenes give equal bytes."""
        from matplotlib import rc_context

        out, date = BytesIO(), "CreationDate" if form == "pdf" else "Date"
        with rc_context({"svg.hashsalt": "smae", "pdf.fonttype": 42}):
            about = {"Creator": f"smae {__version__}", "Title": title, date: None}
            self._figure.savefig(out, format=form, metadata=about)
        return out.getvalue()


def _fraction(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _palette() -> Image.Image:
    """Return one palette for all frames: every drawn colour, and its steps towards the paper."""
    inks = np.array([INK, QUIET, GHOST, *BODIES, *KINDS.values()], np.float64)
    steps = np.linspace(0, 1, 9)[1:, None, None]
    mixed = (steps * inks + (1 - steps) * np.array(PAPER, np.float64)).reshape(-1, 3).round().astype(np.uint8)
    image = Image.new("P", (1, 1))
    image.putpalette(np.concatenate([np.array([PAPER], np.uint8), mixed]).ravel().tobytes())
    return image


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
        f'<div class="panels">{panels}</div>{_track(scene)}<div class="controls">'
        f'<input type="range" min="0" max="{scene.frames - 1}" value="0" aria-label="frame">'
        '<button type="button" class="play">Play</button>'
        '<select class="speed" aria-label="speed"><option value="0.25">¼</option><option value="0.5">½</option>'
        '<option value="1" selected>1×</option><option value="2">2×</option></select>'
        '<button type="button" class="reset">Reset view</button><output></output></div></div>'
    )


def _track(scene: Scene) -> str:
    """Return the HTML of the labels along the time, a colour a label."""
    if not scene.track:
        return ""
    labels = sorted({label for _, _, label in scene.track})
    # The golden angle sets neighbouring colours far apart, however many there are.
    hues = {label: round(137.5 * number) % 360 for number, label in enumerate(labels)}
    parts = "".join(
        f'<span style="flex:{end - first};--hue:{hues[label]}" title="{first / RATE:.0f} to {end / RATE:.0f} s: '
        f'{escape(label)}">{escape(label)}</span>'
        for first, end, label in scene.track
    )
    return f'<div class="labels" aria-label="labels along the time">{parts}</div><p class="now" role="status"></p>'


def page_data(scene: Scene) -> dict[str, Any]:
    """Return the data of the page's script; positions of drawn joints in whole millimetres."""
    return {
        "rate": RATE,
        "frames": scene.frames,
        "realTime": scene.real_time,
        "track": scene.track,
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

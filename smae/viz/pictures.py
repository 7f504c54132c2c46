"""GIF and PNG of a scene, drawn with Pillow at twice the size and halved, which smooths the lines."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smae.viz.scene import (
    ABSENT,
    HIDDEN,
    INFERRED,
    KIND_WORDS,
    NOT_TRACKED,
    RATE,
    REBUILT,
    ROLES,
    TRACKED,
    Camera,
    Panel,
    Scene,
)

Colour = tuple[int, int, int]

PAPER, INK, QUIET, GHOST = (251, 250, 247), (29, 36, 41), (102, 114, 122), (196, 204, 207)
BODIES: tuple[Colour, ...] = ((15, 118, 110), (79, 70, 187), (146, 84, 60))
"""Bodies by role; the page has the same."""
KINDS: dict[int, Colour] = {
    INFERRED: (224, 142, 11), NOT_TRACKED: (204, 37, 48), HIDDEN: (170, 180, 184), REBUILT: (217, 72, 15),
}  # fmt: skip
"""Joints whose colour is not their body's."""

GIF_FRAMES = 100
"""Frames of a GIF at most: of longer scenes it shows every second one, every third, ..."""
POSES = 8
"""Poses of a strip."""

_SCALE = 2
_HEAD, _FOOT, _PAD = 46, 26, 8


def joint_colour(kind: int, role: int) -> Colour:
    """Return the colour of a joint of a kind, on a body of a role."""
    return KINDS.get(kind, BODIES[role])


def draw_gif(scene: Scene) -> bytes:
    """Return the scene as a GIF that repeats: its panels side by side, a caption and a legend."""
    width = {1: 400, 2: 320}.get(len(scene.panels), 260)
    step = -(-scene.frames // GIF_FRAMES)
    size = (len(scene.panels) * width, _HEAD + 340 + _FOOT)
    palette = _palette()
    pictures = []
    for frame in range(0, scene.frames, step):
        sheet = _Sheet(size)
        for number, panel in enumerate(scene.panels):
            sheet.panel(scene, number, frame, box=(number * width, _HEAD, width, 340))
            sheet.text((number * width + _PAD, 25), panel.title, QUIET)
        sheet.text((_PAD, 6), scene.title, INK, room=size[0] - 2 * _PAD)
        sheet.legend(scene, y=size[1] - _FOOT + 5)
        pictures.append(sheet.finish().quantize(palette=palette, dither=Image.Dither.NONE))
    out = BytesIO()
    pictures[0].save(
        out, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 * step / RATE, -1), loop=0,
        optimize=False,
    )  # fmt: skip
    return out.getvalue()


def draw_strip(scene: Scene) -> bytes:
    """Return frames of the scene as a PNG: time runs to the right, a row a panel."""
    frames = list(scene.spread(POSES))
    shape = scene.cameras[0].wide / scene.cameras[0].high
    wide = round(min(170.0, max(110.0, 200 * shape)))
    high = round(min(200.0, max(120.0, 1.1 * wide / shape)))
    size = (max(wide * len(frames), 420), _HEAD + len(scene.panels) * (high + 22) + _FOOT)
    sheet = _Sheet(size)
    sheet.text((_PAD, 6), scene.title, INK, room=size[0] - 2 * _PAD)
    for row, panel in enumerate(scene.panels):
        top = 25 + row * (high + 22)
        sheet.text((_PAD, top), panel.title, QUIET)
        for column, frame in enumerate(frames):
            sheet.panel(scene, row, frame, box=(column * wide, top + 21, wide, high))
    for column, frame in enumerate(frames):
        sheet.text((column * wide + _PAD, size[1] - 2 * _FOOT + 8), scene.moment(frame), QUIET)
    sheet.legend(scene, y=size[1] - _FOOT + 5)
    out = BytesIO()
    sheet.finish().quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


class _Sheet:
    """A picture being drawn; sizes and places are those of the finished one."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.image = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(13 * _SCALE)

    def finish(self) -> Image.Image:
        return self.image.reduce(_SCALE)

    def text(self, place: tuple[int, int], words: str, colour: Colour, *, room: int = 0) -> float:
        """Write words, cut to ``room`` where given, and return how wide they are."""
        while room and self.pen.textlength(words, self.font) > room * _SCALE and len(words) > 1:
            words = words.rstrip("…")[:-1] + "…"
        self.pen.text((place[0] * _SCALE, place[1] * _SCALE), words, colour, self.font)
        return self.pen.textlength(words, self.font) / _SCALE

    def legend(self, scene: Scene, *, y: int) -> None:
        x = float(_PAD)
        keys = [(ROLES[role], TRACKED, role) for role in scene.roles]
        keys += [(KIND_WORDS[kind], kind, 0) for kind in sorted(scene.kinds, reverse=True) if kind != TRACKED]
        for words, kind, role in keys:
            self._dot((x + 4) * _SCALE, (y + 8) * _SCALE, 4 * _SCALE, kind, role)
            x += 14 + self.text((round(x) + 13, y), words, QUIET) + 16

    def panel(self, scene: Scene, number: int, frame: int, *, box: tuple[int, int, int, int]) -> None:
        left, top, width, height = (value * _SCALE for value in box)
        panel, camera = scene.panels[number], scene.cameras[number]
        ghost = scene.panels[panel.ghost] if panel.ghost >= 0 else None
        for shown, faint in ((ghost, True), (panel, False)):
            if shown is None:
                continue
            at = scene.frame_of(shown, frame)
            for body in range(len(shown.bodies)):
                self._body(scene, shown, camera, body, at, (left, top, width, height), faint=faint)

    def _body(
        self, scene: Scene, panel: Panel, camera: Camera, body: int, frame: int, box: tuple[int, int, int, int],
        *, faint: bool,
    ) -> None:  # fmt: skip
        left, top, width, height = box
        kind = panel.kind[body, frame]
        seen = kind != ABSENT
        places = np.zeros((len(kind), 2))
        places[seen] = camera.project(panel.joints[body, frame][seen], width, height)
        spots: list[tuple[float, float]] = [(left + x, top + y) for x, y in places.tolist()]
        thick = max(2, round(min(width, height) / 90))
        for a, b in scene.layout.bones:
            if seen[a] and seen[b]:
                self._bone((*spots[a], *spots[b]), {int(kind[a]), int(kind[b])}, panel.roles[body], thick, faint=faint)
        for joint in np.flatnonzero(seen).tolist() if not faint else ():
            self._dot(*spots[joint], thick * 1.25, int(kind[joint]), panel.roles[body])

    def _bone(
        self, ends: tuple[float, float, float, float], kinds: set[int], role: int, thick: int, *, faint: bool
    ) -> None:
        if faint or HIDDEN in kinds:
            self.pen.line(ends, GHOST, max(_SCALE, thick // 2))
        else:
            self.pen.line(ends, KINDS[REBUILT] if REBUILT in kinds else BODIES[role], thick)

    def _dot(self, x: float, y: float, radius: float, kind: int, role: int) -> None:
        colour, around = joint_colour(kind, role), (x - radius, y - radius, x + radius, y + radius)
        if kind in (NOT_TRACKED, HIDDEN):
            self.pen.ellipse(around, PAPER, colour, width=_SCALE)
        else:
            self.pen.ellipse(around, colour)


def _palette() -> Image.Image:
    """Return one palette for all frames: every colour that is drawn, and its steps towards the paper."""
    inks = np.array([INK, QUIET, GHOST, *BODIES, *KINDS.values()], np.float64)
    steps = np.linspace(0, 1, 9)[1:, None, None]
    mixed = (steps * inks + (1 - steps) * np.array(PAPER, np.float64)).reshape(-1, 3).round().astype(np.uint8)
    image = Image.new("P", (1, 1))
    image.putpalette(np.concatenate([np.array([PAPER], np.uint8), mixed]).ravel().tobytes())
    return image

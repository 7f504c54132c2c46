"""``smae.view``: a clip as an interactive 3D page, GIF, strip of frames or Rerun recording."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smae import interrupts, progress
from smae.atomic_io import atomic_file, check_output
from smae.config import renamed
from smae.data.prepare import PrepareSettings
from smae.data.raw.recording import RATE
from smae.errors import ConfigError
from smae.viz.scene import ABSENT, Panel, Scene, scene_of_raw

if TYPE_CHECKING:
    from smae.data.store import Store

logger = logging.getLogger(__name__)

FORMATS = {
    ".html": ("an HTML page written by smae", rb'.*<meta name="generator" content="smae '),
    ".gif": ("a GIF", rb"GIF8"),
    ".png": ("a PNG", rb"\x89PNG\r\n\x1a\n"),
    ".svg": ("an SVG written by smae", rb".*<svg .*smae "),
    ".pdf": ("a PDF written by smae", rb"%PDF-.*/Creator \(smae "),
    ".rrd": ("a Rerun recording", rb"RRF"),
}
"""Formats by the ending of the file name: a name for messages, a pattern of both ends of it."""
_ENDS = 4096


@renamed(to="out")
@interrupts.deferred("run it again")
def view(
    where: Store | Path | str | None = None,
    *,
    clip: str | None = None,
    index: int | None = None,
    raw: Path | str | None = None,
    run: Path | str | None = None,
    out: Path | str | None = None,
    source: str = "ntu",
    layout: str | None = None,
) -> Path:
    """Draw one clip and return the file, whose ending gives its format (see ``FORMATS``).

    An earlier file of the same format is replaced, any other is refused.

    Args:
        where: a store, a raw file, a folder or zip of such; default the store of ``run`` or here.
        clip: name of the clip; default the first one of a store.
        index: number of the clip in the store, instead of a name.
        raw: with a store: its raw folder or zip, to show raw and denoised side by side.
        run: with a store: a run, to show original, masked and reconstructed side by side; with a
            raw recording: a run whose head labels it, a long one second by second.
        out: the output file, with an ending of ``FORMATS``; default ``<clip>.html``.
        source: registered source of raw files.
        layout: whose joints they hold, where they do not say: a name or a ``.toml`` file.

    Raises:
        ConfigError: options that exclude each other, an unknown ending, or an output to keep.
        DataError: a bad recording, a damaged store, or an unusable run.
        UnknownNameError: no such clip.
    """
    from smae.data.raw.recordings import is_store

    if out is not None:
        check_target(Path(out))
    with progress.task("view"):
        if where is None or is_store(where):
            if layout is not None:
                raise ConfigError("--layout needs a raw recording: a store has its own; leave --layout out")
            scene, inputs = _store_scene(where, clip=clip, index=index, raw=raw, run=run)
        else:
            for option, value in {"--index": index, "--raw": raw}.items():
                if value is not None:
                    raise ConfigError(f"{option} needs a store, and {where} is not one: leave {option} out")
            file = Path(str(where))
            scene, inputs = scene_of_raw(file, clip, PrepareSettings(source=source, layout=layout)), [file]
            if run is not None:
                scene = _labelled(scene, file, run, layout=layout)
        path = Path(out or page_name(scene))
        # A page may be written into a raw folder, but not into a store or over a recording.
        protected = [entry for entry in inputs if entry.is_file() or is_store(entry)]
        write_scene(scene, path, inputs=protected)
    for note in scene.notes:
        logger.info(note)
    return path


def _labelled(scene: Scene, where: Path, run: Path | str, *, layout: str | None) -> Scene:
    """Return the scene of a raw recording with the classes that a run's head gives it, along the time."""
    from smae.eval.predict import predict

    if not where.is_file() or where.suffix.lower() == ".zip":
        raise ConfigError(f"--run labels one recording, and {where} is not a file of one: name the file")
    predictions = predict([where], run=run, layout=layout)
    (one,), names = predictions.found, predictions.names
    facts = (*scene.facts, ("predicted class", f"{names[one.label]}, {100 * one.probability:.1f} %"))
    parts = list[tuple[int, int, str]]()
    for label, group in groupby(one.track, key=lambda second: second.label):
        seconds = [second.second for second in group]
        words = "no body" if label is None else names[label]
        parts.append((RATE * seconds[0], min(RATE * (seconds[-1] + 1), scene.frames), words))
    return replace(scene, facts=facts, track=tuple(parts))


def _store_scene(
    where: Store | Path | str | None,
    *,
    clip: str | None,
    index: int | None,
    raw: Path | str | None,
    run: Path | str | None,
) -> tuple[Scene, list[Path]]:
    """Return the scene of a stored clip, and the local files and folders that it was read from."""
    from smae.data.store import open_store
    from smae.viz.scene import find_clip, scene_of_clip

    if clip is not None and index is not None:
        raise ConfigError("--clip and --index both name a clip: leave one out")
    if raw is not None and run is not None:
        raise ConfigError("--raw and --run exclude each other: leave one out")
    if run is not None:
        from smae.train.run_folder import find_run

        found = find_run(Path(run), root=Path())
        where = found.open_store(where)
    store = open_store(where)
    if index is not None and not 0 <= index < len(store):
        raise ConfigError(f"--index {index}: expected 0 to {len(store) - 1}, the clips of {store.path}")
    if clip is not None:
        index = find_clip(store, clip)
    elif index is None:
        index = 0
        logger.info(f"showing the first of {len(store):,} clips; --clip or --index choose another")
    inputs = [Path(entry) for entry in (store.path, raw) if entry is not None]
    if run is None:
        return scene_of_clip(store, index, raw=Path(raw) if raw is not None else None), inputs
    from smae.eval.export import load_objective
    from smae.viz.reconstruction import scene_of_reconstruction

    config, objective = load_objective(found, store)
    return scene_of_reconstruction(objective, store, config, index=index), inputs


def page_name(scene: Scene) -> str:
    """Return the file name of a scene's page: the clip's name without unsafe characters."""
    return (re.sub(r"[^A-Za-z0-9._-]+", "_", scene.name).lstrip(".") or "clip") + ".html"


def check_target(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output file that cannot or must not be written: a ``ConfigError``."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(f"--out {path}: expected a name that ends in {', '.join(FORMATS)}")
    if path.is_dir():
        raise ConfigError(f"--out {path}: a folder; name the file in it")
    if suffix == ".rrd" and find_spec("rerun") is None:
        raise ConfigError("a .rrd file needs Rerun: pip install 'smae[rerun]'")
    check_replaceable(path, suffix, inputs)


def check_replaceable(path: Path, suffix: str, inputs: Iterable[Path]) -> None:
    """Refuse to replace a file of another format than ``suffix``, or to write into an input."""
    kind, pattern = FORMATS[suffix]

    def is_kind(path: Path) -> bool:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            ends = file.read(_ENDS)
            file.seek(max(_ENDS, path.stat().st_size - _ENDS))
            return re.match(pattern, ends + file.read(_ENDS), re.DOTALL) is not None

    check_output(path, kind=kind, is_kind=is_kind, overwrite=True, inputs=inputs)


def write_scene(scene: Scene, path: Path | str, *, inputs: Iterable[Path] = ()) -> None:
    """Write ``scene`` to ``path`` in the format of its ending; missing folders are made.

    Args:
        scene: what is drawn.
        path: the file; one of the same format is replaced.
        inputs: files and folders that the scene was read from, which are not written to.

    Raises:
        ConfigError: see ``check_target``.
        EnvironmentFault: the file cannot be written.
    """
    from smae.viz.drawing import draw_gif, draw_strip, render_page

    path = Path(path)
    check_target(path, inputs)
    if path.exists():
        logger.info(f"{path} exists and is replaced")
    with atomic_file(path) as partial:
        match path.suffix.lower():
            case ".html":
                partial.write_text(render_page(scene), encoding="utf-8")
            case ".gif":
                partial.write_bytes(draw_gif(scene))
            case ".png" | ".svg" | ".pdf" as ending:
                partial.write_bytes(draw_strip(scene, form=ending[1:]))
            case _:
                _write_rerun(scene, partial)


def _write_rerun(scene: Scene, path: Path) -> None:
    import rerun as rr

    stream = rr.RecordingStream("smae", recording_id=scene.name)
    stream.save(path)
    stream.log("/", rr.ViewCoordinates.LUF, static=True)
    for frame in progress.track(range(scene.frames), "draw", unit="frames"):
        stream.set_time("frame", sequence=frame)
        stream.set_time("time", duration=frame / RATE)
        for panel in scene.panels:
            _log_panel(stream, panel, scene, scene.frame_of(panel, frame))
    stream.flush()
    stream.disconnect()


def _log_panel(stream: Any, panel: Panel, scene: Scene, frame: int) -> None:
    import rerun as rr

    from smae.viz.drawing import BODIES, joint_colour

    for body, name in enumerate(panel.bodies):
        joints, kind, role = panel.joints[body, frame], panel.kind[body, frame], panel.roles[body]
        drawn = np.flatnonzero(kind != ABSENT)
        bones = [joints[[a, b]] for a, b in scene.layout.bones if ABSENT not in (kind[a], kind[b])]
        points = rr.Points3D(
            joints[drawn],
            colors=[joint_colour(int(kind[joint]), role) for joint in drawn],
            labels=[scene.layout.joints[joint] for joint in drawn],
            show_labels=False,
            radii=0.015,
        )
        entity = f"{panel.title}/{name}".replace(" ", "_")
        rr.log(f"{entity}/joints", points, recording=stream)
        rr.log(f"{entity}/bones", rr.LineStrips3D(bones, colors=BODIES[role], radii=0.006), recording=stream)

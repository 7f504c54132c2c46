"""``smae.view``: one clip as an interactive 3D page, a GIF, a strip of frames or a Rerun recording."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from smae import interrupts, progress
from smae.atomic_io import atomic_file, check_output
from smae.errors import ConfigError
from smae.viz.scene import ABSENT, RATE, Panel, Scene

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


@interrupts.deferred("run it again")
def view(
    where: Path | str | None = None,
    *,
    clip: str | None = None,
    index: int | None = None,
    raw: Path | str | None = None,
    run: Path | str | None = None,
    to: Path | str | None = None,
    source: str = "ntu",
) -> Path:
    """Draw one clip and return the file, whose ending gives its format (see ``FORMATS``).

    An earlier file of the same format is replaced, any other is refused.

    Args:
        where: a store, a raw file, or a folder or zip of raw files; default the store of ``run`` or
            of the current folder.
        clip: name of the clip; default the first one of a store.
        index: number of the clip in the store, instead of a name.
        raw: with a store: its raw folder or zip, to show raw and denoised side by side.
        run: with a store: a run, to show original, masked and reconstructed side by side.
        to: the output file: ``.html``, ``.gif``, ``.png`` or ``.rrd``; default ``<clip>.html``.
        source: registered source of raw files.

    Raises:
        ConfigError: options that exclude each other, an unknown file ending, or an output that
            must not be replaced.
        DataError: a bad recording, a damaged store, or an unusable run.
        UnknownNameError: no such clip.
    """
    if to is not None:
        check_target(Path(to))
    with progress.task("view"):
        if where is None or _is_store(where):
            scene, inputs = _store_scene(where, clip=clip, index=index, raw=raw, run=run)
        else:
            for option, value in {"--index": index, "--raw": raw, "--run": run}.items():
                if value is not None:
                    raise ConfigError(f"{option} needs a store, and {where} is not one: leave {option} out")
            scene, inputs = _raw_scene(Path(where), clip=clip, source=source), [Path(where)]
        path = Path(to or page_name(scene))
        # An output beside the recordings of a raw folder is no harm, inside a store or over an input it is.
        write_scene(scene, path, inputs=[entry for entry in inputs if entry.is_file() or _is_store(entry)])
    for note in scene.notes:
        logger.info(note)
    return path


def _is_store(where: Path | str) -> bool:
    from smae.data.store.file_store import locate

    path = locate(where)
    return isinstance(path, str) or path.suffix == ".zarr" or (path / "zarr.json").is_file()


def _raw_scene(where: Path, *, clip: str | None, source: str) -> Scene:
    from smae.data.prepare.plan import Settings
    from smae.viz.clip_scenes import scene_of_raw

    if not where.exists():
        raise ConfigError(f"nothing at {where}: give a store, a recording, or a folder or zip of recordings")
    if clip is None and (where.is_dir() or where.suffix.lower() == ".zip"):
        raise ConfigError(f"{where} holds many recordings: name one with --clip, for example S001C002P003R002A013")
    return scene_of_raw(where, clip, Settings(source=source))


def _store_scene(
    where: Path | str | None, *, clip: str | None, index: int | None, raw: Path | str | None, run: Path | str | None
) -> tuple[Scene, list[Path]]:
    """Return the scene of a stored clip, and the local files and folders that it was read from."""
    from smae.data.store.store import open_store
    from smae.viz.clip_scenes import find_clip, scene_of_clip

    if clip is not None and index is not None:
        raise ConfigError("--clip and --index both name a clip: leave one out")
    if raw is not None and run is not None:
        raise ConfigError("--raw and --run exclude each other: leave one out")
    if run is not None:
        from smae.train.run_folder import find_run

        found = find_run(Path(run), root=Path())
        where = where or found.describe()["store"]["path"]
    store = open_store(where)
    if index is not None and not 0 <= index < len(store):
        raise ConfigError(f"--index {index}: expected 0 to {len(store) - 1}, the clips of {store.path}")
    if clip is not None:
        index = find_clip(store, clip)
    elif index is None:
        index = 0
        logger.info(f"showing the first of {len(store):,} clips; choose another with --clip or --index")
    inputs = [Path(entry) for entry in (store.path, raw) if entry is not None]
    if run is None:
        return scene_of_clip(store, index, raw=Path(raw) if raw is not None else None), inputs
    from smae.eval.evaluate import load_objective
    from smae.viz.reconstruction import scene_of_reconstruction

    config, objective = load_objective(found, store, say=logger.info)
    return scene_of_reconstruction(objective, store, config, index=index), inputs


def _page(scene: Scene, path: Path) -> None:
    from smae.viz.player import render_page

    path.write_text(render_page(scene), encoding="utf-8")


def _gif(scene: Scene, path: Path) -> None:
    from smae.viz.pictures import draw_gif

    path.write_bytes(draw_gif(scene))


def _strip(scene: Scene, path: Path) -> None:
    from smae.viz.pictures import draw_strip

    path.write_bytes(draw_strip(scene))


def _rerun(scene: Scene, path: Path) -> None:
    """Log points and bones of each body of each panel, frame by frame."""
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

    from smae.viz.pictures import BODIES, joint_colour

    for body, name in enumerate(panel.bodies):
        joints, kind, role = panel.joints[body, frame], panel.kind[body, frame], panel.roles[body]
        drawn = np.flatnonzero(kind != ABSENT)
        bones = [joints[[a, b]] for a, b in scene.layout.bones if kind[a] != ABSENT and kind[b] != ABSENT]
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


class Format(NamedTuple):
    """A file format: its name for messages, its first bytes (of pages: a tag), and what writes it."""

    name: str
    magic: bytes
    write: Callable[[Scene, Path], None]

    def matches(self, path: Path) -> bool:
        """Return whether a file is of this format; a page must be one of smae."""
        if self.write is _page:
            from smae.viz.player import is_page

            return is_page(path)
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(self.magic)) == self.magic


FORMATS = {
    ".html": Format("an HTML page written by smae", b"", _page),
    ".gif": Format("a GIF", b"GIF8", _gif),
    ".png": Format("a PNG", b"\x89PNG\r\n\x1a\n", _strip),
    ".rrd": Format("a Rerun recording", b"RRF", _rerun),
}
"""What is written, by the ending of the file's name."""


def page_name(scene: Scene) -> str:
    """Return the file name of a scene's page: the clip's name, reduced to characters safe in file names."""
    return (re.sub(r"[^A-Za-z0-9._-]+", "_", scene.name).lstrip(".") or "clip") + ".html"


def check_target(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output file that cannot or must not be written.

    Raises:
        ConfigError: an unknown ending, a folder, ``.rrd`` without Rerun, a file of another format,
            or an output inside one of the ``inputs``.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(f"--to {path}: expected a name that ends in {', '.join(FORMATS)}")
    if path.is_dir():
        raise ConfigError(f"--to {path}: a folder; name the file in it")
    if suffix == ".rrd" and find_spec("rerun") is None:
        raise ConfigError("a .rrd file needs Rerun, which is not installed: pip install 'smae[rerun]'")
    check_output(path, kind=FORMATS[suffix].name, is_kind=FORMATS[suffix].matches, overwrite=True, inputs=inputs)


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
    path = Path(path)
    check_target(path, inputs)
    if path.exists():
        logger.info(f"{path} exists and is replaced")
    with atomic_file(path) as partial:
        FORMATS[path.suffix.lower()].write(scene, partial)

"""A clip to a picture: a page that plays, a GIF, a strip of frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smae.api.common import RUNS, Say, silent
from smae.data.store.store import open_store
from smae.errors import ConfigError

if TYPE_CHECKING:
    from smae.viz import Scene


def view(
    where: Path | str | None = None,
    *,
    clip: str | None = None,
    index: int | None = None,
    raw: Path | str | None = None,
    run: Path | str | None = None,
    to: Path | str | None = None,
    source: str = "ntu",
    say: Say = silent,
) -> Path:
    """Draw one clip, and return the file: a page, GIF, PNG strip or Rerun recording, as its name ends.

    Args:
        where: a store; or a raw file; or a folder or zip of raw files. The store found here, or ``run``'s, by default.
        clip: name of the clip; the first one of a store by default.
        index: number of the clip in the store, instead of a name.
        raw: with a store: where its raw files lie, to show raw and denoised side by side.
        run: with a store: a run, to show original, masked and filled in side by side.
        to: the file to write: ``.html``, ``.gif``, ``.png`` or ``.rrd``; ``<clip>.html`` here by default.
        source: registered source of raw files.
        say: takes lines for people.

    Raises:
        ConfigError: options that do not go together, or another ending.
        DataError: a bad recording, a damaged store, or an unusable run.
        UnknownNameError: no such clip.
    """
    from smae.viz import check_target, page_name, write_scene

    if to is not None:
        check_target(Path(to))
    if where is None or _is_store(where):
        scene = _store_scene(where, clip=clip, index=index, raw=raw, run=run, say=say)
    else:
        others: dict[str, object] = {"--index": index, "--raw": raw, "--run": run}
        scene = _raw_scene(Path(where), clip=clip, source=source, others=others)
    path = Path(to) if to is not None else Path(page_name(scene))
    if path.exists():
        say(f"{path} was there and is replaced")
    for note in scene.notes:
        say(note)
    write_scene(scene, path)
    return path


def _is_store(where: Path | str) -> bool:
    from smae.data.store.file_store import locate

    path = locate(where)
    return isinstance(path, str) or path.suffix == ".zarr" or (path / "zarr.json").is_file()


def _raw_scene(where: Path, *, clip: str | None, source: str, others: dict[str, object]) -> Scene:
    from smae.data.prepare.plan import Settings
    from smae.viz.clip_scenes import scene_of_raw

    if not where.exists():
        raise ConfigError(f"nothing at {where}: give a store, a recording, or a folder or zip of recordings")
    for option, value in others.items():
        if value is not None:
            raise ConfigError(f"{option} goes with a store, and {where} is none: leave {option} out")
    if clip is None and (where.is_dir() or where.suffix.lower() == ".zip"):
        raise ConfigError(f"{where} holds many recordings: say which with --clip, for example S001C002P003R002A013")
    return scene_of_raw(where, clip, Settings(source=source))


def _store_scene(
    where: Path | str | None,
    *,
    clip: str | None,
    index: int | None,
    raw: Path | str | None,
    run: Path | str | None,
    say: Say,
) -> Scene:
    from smae.viz.clip_scenes import find_clip, scene_of_clip

    if clip is not None and index is not None:
        raise ConfigError("--clip and --index both name a clip: leave one out")
    if raw is not None and run is not None:
        raise ConfigError("--raw and --run each fill the page: leave one out")
    if run is None:
        found, store = None, open_store(where)
    else:
        from smae.train.run_folder import find_run

        found = find_run(Path(run), root=RUNS)
        store = open_store(where or found.describe()["store"]["path"])
    if index is not None and not 0 <= index < len(store):
        raise ConfigError(f"--index {index}: expected 0 to {len(store) - 1}, the clips of {store.path}")
    if clip is None and index is None:
        say(f"the first of {len(store):,} clips; name another with --clip or --index")
    number = find_clip(store, clip) if clip is not None else index or 0
    if found is None:
        return scene_of_clip(store, number, raw=Path(raw) if raw is not None else None)
    from smae.eval.export import load_objective
    from smae.viz.reconstruction import scene_of_preview

    config, objective = load_objective(found, store)
    return scene_of_preview(objective, store, config, index=number)

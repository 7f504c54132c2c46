"""From a scene to a file, in the form that the file's name asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from smae.errors import ConfigError
from smae.viz.scene import Scene


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
    from smae.viz.rerun_file import write_rerun

    write_rerun(scene, path)


FORMATS: dict[str, Callable[[Scene, Path], None]] = {".html": _page, ".gif": _gif, ".png": _strip, ".rrd": _rerun}
"""What is written, by the ending of the file's name."""


def page_name(scene: Scene) -> str:
    """Return the name of a scene's page: after its clip, whose name comes from anywhere and must lead nowhere."""
    return (re.sub(r"[^A-Za-z0-9._-]+", "_", scene.name).lstrip(".") or "clip") + ".html"


def check_target(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is read for it.

    Raises:
        ConfigError: another ending than those of ``FORMATS``, a folder, or ``.rrd`` without Rerun.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--to {path}: expected a name that ends in {', '.join(FORMATS)}")
    if path.is_dir():
        raise ConfigError(f"--to {path}: a folder; name the file in it")
    if path.suffix.lower() == ".rrd":
        from smae.viz.rerun_file import check_rerun

        check_rerun()


def write_scene(scene: Scene, path: Path | str) -> None:
    """Write ``scene`` to ``path``, whose ending says in which form; folders on the way are made.

    Raises:
        ConfigError: see ``check_target``.
    """
    path = Path(path)
    check_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FORMATS[path.suffix.lower()](scene, path)

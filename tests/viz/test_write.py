"""Which file is written in which form, and what is refused before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smae.errors import ConfigError
from smae.viz import FORMATS, check_target, page_name, write_scene
from tests.viz.scenes import panel, scene

HEADS = {".html": b"<!doctype html>", ".gif": b"GIF89a", ".png": b"\x89PNG", ".rrd": b"RRF2"}


@pytest.mark.parametrize("ending", FORMATS)
def test_the_ending_says_the_form_and_folders_are_made(ending, tmp_path):
    if ending == ".rrd":
        pytest.importorskip("rerun", reason="Rerun is not installed (the extra smae[rerun])")
    path = tmp_path / "new" / f"clip{ending.upper() if ending == '.gif' else ending}"
    write_scene(scene(panel(bodies=2, frames=2)), path)
    assert path.read_bytes().startswith(HEADS[ending])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("S001C001P001R001A001", "S001C001P001R001A001.html"),
        ("../../.profile", "_.._.profile.html"),
        ("..", "clip.html"),
    ],
)
def test_a_page_is_named_after_its_clip_and_stays_where_it_belongs(name, file):
    assert page_name(replace(scene(), name=name)) == file


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.html, \.gif, \.png, \.rrd"):
        check_target(tmp_path / "clip.mp4")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ConfigError, match="a folder"):
        check_target(tmp_path / "a.png")


def test_without_rerun_its_form_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("smae.viz.rerun_file.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'smae\[rerun\]'"):
        check_target(tmp_path / "clip.rrd")

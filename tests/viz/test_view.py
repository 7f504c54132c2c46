"""Output formats of scenes, and which files may be replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smae import interrupts
from smae.errors import ConfigError, Interrupted
from smae.viz import FORMATS, write_scene
from smae.viz.view import check_target, page_name
from tests.viz.scenes import panel, scene

HEADS = {
    ".html": b"<!doctype html>",
    ".gif": b"GIF89a",
    ".png": b"\x89PNG",
    ".svg": b"<?xml",
    ".pdf": b"%PDF-",
    ".rrd": b"RRF2",
}


def skip_without_rerun(suffix):
    if suffix == ".rrd":
        pytest.importorskip("rerun", reason="Rerun is not installed (the extra smae[rerun])")


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_ending_gives_the_format_and_folders_are_made(suffix, tmp_path):
    skip_without_rerun(suffix)
    path = tmp_path / "new" / f"clip{suffix.upper() if suffix == '.gif' else suffix}"
    write_scene(scene(panel(bodies=2, frames=2)), path)
    assert path.read_bytes().startswith(HEADS[suffix])
    write_scene(scene(panel(frames=2)), path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "content",
    [b"", b"<!doctype html><title>mine</title>", b'{"run": 1}', b"%PDF-1.7 my paper " * 900, b"<svg>mine</svg>"],
)
def test_a_foreign_file_is_refused_and_stays(suffix, content, tmp_path):
    skip_without_rerun(suffix)
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is there already and is not"):
        write_scene(scene(), path)
    assert path.read_bytes() == content


def test_links_and_inputs_are_refused(tmp_path):
    folder, page = tmp_path / "ntu.zarr", tmp_path / "page.html"
    folder.mkdir()
    write_scene(scene(), page)
    (tmp_path / "link.html").symlink_to(page)
    with pytest.raises(ConfigError, match="is a link, which is not replaced"):
        write_scene(scene(), tmp_path / "link.html")
    with pytest.raises(ConfigError, match="be inside"):
        write_scene(scene(), folder / "page.html", inputs=[folder])
    assert list(folder.iterdir()) == []


def test_an_interrupt_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "clip.gif"
    write_scene(scene(panel(frames=2)), path)
    before = path.read_bytes()
    monkeypatch.setattr(interrupts, "_pending", 2)
    with pytest.raises(Interrupted):
        write_scene(scene(panel(frames=30)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("S001C001P001R001A001", "S001C001P001R001A001.html"),
        ("../../.profile", "_.._.profile.html"),
        ("..", "clip.html"),
    ],
)
def test_page_names_are_safe_file_names(name, file):
    assert page_name(replace(scene(), name=name)) == file


def test_unknown_endings_and_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.html, \.gif, \.png, \.svg, \.pdf, \.rrd"):
        check_target(tmp_path / "clip.mp4")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ConfigError, match="a folder"):
        check_target(tmp_path / "a.png")


def test_without_rerun_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("smae.viz.view.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'smae\[rerun\]'"):
        check_target(tmp_path / "clip.rrd")

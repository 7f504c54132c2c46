"""Results as tables, and progress bars in a notebook."""

from __future__ import annotations

import sys
import types

import smae
from smae import progress
from smae.tables import Grid, as_html, as_text


def test_text_is_aligned_and_never_cut():
    grid = Grid(("name", "what", "n"), [("a", "x\ny", "1"), ("b" * 200, "", "1,000")], "title")
    lines = as_text(grid).splitlines()
    assert lines[0] == "title"
    assert lines[2].split() == ["a", "x", "1"]
    assert lines[3].split() == ["y"]
    assert lines[4] == "b" * 200 + " " * 8 + "1,000"


def test_html_escapes_what_it_shows():
    html = as_html(Grid(("a", "b", "c"), [("<script>", "&", "1")], "<b>"))
    assert "<script>" not in html
    assert "&lt;script&gt;</td>" in html
    assert '<td style="text-align:right">1</td>' in html


def test_results_of_commands_are_tables(tmp_path):
    smae.synthesise(tmp_path / "ntu", actions=2, subjects=2, cameras=1, replications=1)
    prepared = smae.prepare(tmp_path / "ntu", tmp_path / "ntu.zarr", executor="inline")
    store = smae.open_store(prepared.store)
    shown = {
        "quarantined": prepared,
        "body-frames": smae.info(store),
        "numpy": smae.doctor(tmp_path),
        "loss": smae.status(tmp_path),
        "sound": smae.verify(prepared.store),
        "own: 2 train, 2 test clips": smae.split(prepared.store, by="subject", test=(1,)),
        "kinect20.zarr: 4 clips, ": smae.convert(store, layout="kinect20", out=tmp_path / "kinect20.zarr"),
        "x_test: ": smae.export(prepared.store, tmp_path / "x.npz", format="ctrgcn", protocol="own"),
        "clip 1 of 4": smae.explain(prepared.store, store[0].name),
    }
    assert all("<table>" in one._repr_html_() and words in str(one) for words, one in shown.items())


class ZMQInteractiveShell:
    """What IPython calls the shell of a notebook."""


def test_a_notebook_shows_bars(monkeypatch):
    drawn: list[str] = []
    handle = types.SimpleNamespace(update=drawn.append)

    def display(shown, display_id):
        drawn.append(shown)
        return handle

    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=ZMQInteractiveShell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display, HTML=str))
    monkeypatch.setattr(progress, "_reporter", None)
    with progress.task("pre<train", total=4, unit="steps") as task:
        for _ in range(4):
            task.advance(note="loss 0.1")
    assert "pre&lt;train: 0 of 4 steps" in drawn[0]
    assert '<progress max="4" value="4">' in drawn[-1]
    assert "loss 0.1" in drawn[-1]
    assert all("<br>" not in one for one in drawn)


def test_elsewhere_nothing_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_reporter", None)
    with progress.task("work", total=1) as task:
        task.advance()
    assert capsys.readouterr() == ("", "")

"""Diagnostics: everything is checked, what is missing has a remedy, only what stops smae is wrong."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

import smae
from smae import diagnostics
from smae.diagnostics import Diagnosis, Finding, doctor
from smae_cli.main import run


def one(findings, what: str) -> Finding:
    return next(finding for finding in findings if finding.what == what)


def fake_torch(monkeypatch, *, cuda: str | None, cards: int = 0) -> None:
    card = SimpleNamespace(name="Some GPU", total_memory=80 * 10**9)
    torch = SimpleNamespace(
        __version__="2.9.0",
        version=SimpleNamespace(cuda=cuda, hip=None),
        cuda=SimpleNamespace(
            is_available=lambda: cards > 0, device_count=lambda: cards, get_device_properties=lambda number: card
        ),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_all_is_checked_and_nothing_is_wrong_here(tmp_path):
    diagnosis = doctor(tmp_path)
    names = [finding.what for finding in diagnosis.findings]
    for what in (
        "smae",
        "python",
        "torch",
        "numpy",
        "numba",
        "zarr",
        "cores",
        "memory",
        "disk",
        "disk speed",
        "kernels",
    ):
        assert what in names
    assert diagnosis.exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_something_wrong_gives_code_5_and_notes_do_not():
    assert Diagnosis((Finding("a", "ok", ""), Finding("b", "note", ""))).exit_code == 0
    assert Diagnosis((Finding("a", "ok", ""), Finding("b", "wrong", ""))).exit_code == 5


def test_a_missing_package_is_wrong_and_has_a_remedy(monkeypatch):
    monkeypatch.setattr(diagnostics, "_version", lambda name: "" if name == "zarr" else "1.0")
    assert one(diagnostics._software(), "zarr") == Finding("zarr", "wrong", "not installed", "pip install zarr")


def test_a_missing_extra_is_a_note_with_its_command(monkeypatch):
    monkeypatch.setattr(diagnostics, "find_spec", lambda name: None)
    found = one(diagnostics._extras(), "smae[rerun]")
    assert (found.state, found.remedy) == ("note", "pip install 'smae[rerun]'")


@pytest.mark.parametrize(
    ("cuda", "driver", "words"),
    [
        (None, False, "none found"),
        (None, True, "built for the CPU only"),
        ("12.8", False, "no NVIDIA driver"),
        ("12.8", True, "torch sees none, driver 570.1"),
    ],
)
def test_why_there_is_no_gpu(monkeypatch, tmp_path, cuda, driver, words):
    version = tmp_path / "version"
    if driver:
        version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.1  Mon Jan\n")
    monkeypatch.setattr(diagnostics, "_NVIDIA", version)
    fake_torch(monkeypatch, cuda=cuda)
    found = one(diagnostics._torch(), "GPU")
    assert found.state == "note"
    assert words in found.found


def test_a_gpu_is_listed_with_its_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(diagnostics, "_NVIDIA", tmp_path / "none")
    fake_torch(monkeypatch, cuda="12.8", cards=1)
    assert one(diagnostics._torch(), "GPU 0").found == "Some GPU, 80 GB"


def test_a_torch_that_cannot_be_imported_is_wrong(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert one(diagnostics._torch(), "torch").state == "wrong"


def test_a_folder_that_cannot_be_written_is_wrong(monkeypatch, tmp_path):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(diagnostics.tempfile, "TemporaryFile", refuse)
    found = one(diagnostics._disk(tmp_path), "disk speed")
    assert (found.state, "Permission denied" in found.found) == ("wrong", True)


def test_kernels_that_do_not_load_are_wrong(monkeypatch):
    monkeypatch.setitem(sys.modules, "smae.data.raw.fast_parser", None)
    found = one(diagnostics._kernels(), "kernels")
    assert found.state == "wrong"
    assert "do not load" in found.found


def test_the_command_prints_names_with_brackets_and_json(tmp_path, monkeypatch, capsys):
    diagnosis = Diagnosis((Finding("smae[rerun]", "note", "not installed", "pip install 'smae[rerun]'"),))
    monkeypatch.setattr(smae, "doctor", lambda folder: diagnosis)
    assert run(["doctor", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.count("smae[rerun]") == 3
    assert run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["state"] == "note"
    monkeypatch.undo()
    assert run(["doctor", str(tmp_path / "nowhere")]) == 2

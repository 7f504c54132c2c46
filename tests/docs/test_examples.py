"""The plug-ins that the pages show are plug-ins: they keep the contracts, are found when installed, and are trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import smae
from smae.config import check
from smae.models import Grid
from smae.models.masking import maskings
from smae.rng import Noise
from smae.skeleton import LAYOUTS, NTU25
from smae.testing import check_masking
from tests.docs.blocks import DOCS, blocks

BRIEF = {"train.max_steps": 1, "train.batch": 4, "augment.frames": 24, "linear.epochs": 2, "linear.views": 1}


def run_python(page: Path) -> dict[str, object]:
    """Run the Python blocks of a page in one namespace, and return it."""
    space: dict[str, object] = {"__name__": "__example__"}
    for block in blocks(page, "python"):
        exec(compile(block.text, block.where, "exec"), space)
    return space


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    smae.synthesise(folder / "ntu", actions=2, subjects=3, cameras=1, replications=1, hard=False)
    return smae.prepare(folder / "ntu", folder / "ntu.zarr", executor="inline", missing_list=False).store


@pytest.fixture
def sandbox_folder(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds a small store and nothing else."""
    (tmp_path / "ntu.zarr").symlink_to(store)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("fresh_registries")
def test_the_masking_works_as_an_installed_plug_in(sandbox_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = DOCS / "masking.md"
    (code,) = (block for block in blocks(page, "python") if block.title == "window.py")
    (entry,) = (block for block in blocks(page, "toml") if "smae.maskings" in block.text)
    (sandbox_folder / "window.py").write_text(code.text)
    about = sandbox_folder / "window-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: window\nVersion: 0.1\n")
    group = entry.text.partition('[project.entry-points."smae.maskings"]')[2]
    (about / "entry_points.txt").write_text("[smae.maskings]" + group.replace('"', ""))
    monkeypatch.syspath_prepend(sandbox_folder)

    outcome = smae.pretrain(
        out="runs/window", recipe="demo", device="cpu",
        settings={**BRIEF, "masking.name": "window", "masking.keep": 0.3},
    )  # fmt: skip

    assert outcome.run.describe()["config"]["masking"] == {"name": "window", "keep": 0.3}


@pytest.mark.usefixtures("fresh_registries")
def test_the_masking_shows_one_stretch_of_time() -> None:
    run_python(DOCS / "masking.md")
    grid = Grid.cut(40, joints=25, patch=4)
    window = maskings.get("window")
    config = check(window.Config, {"name": "window", "keep": 0.3}, where="masking")
    mask = window(config, grid, NTU25)(torch.zeros(16, grid.tokens, grid.values), Noise(0, 0, torch.arange(16)))

    check_masking(window)
    assert mask.keep.shape == (16, 3 * 25)
    shown = torch.zeros(16, 10, dtype=torch.bool).scatter_(1, mask.keep // 25, True)
    edges = (shown & ~shown.roll(1, 1)).sum(1)
    assert (edges == 1).all(), "one stretch each, on the circle of time"
    assert len({tuple(row.tolist()) for row in shown}) > 3, "beginning where the noise says"


@pytest.mark.usefixtures("fresh_registries", "sandbox_folder")
def test_the_decoder_trains_and_the_probe_evaluates_it() -> None:
    run_python(DOCS / "plugins.md")

    outcome = smae.pretrain(recipe="demo", settings={**BRIEF, "decoder.name": "mean"}, device="cpu")
    _, evaluation = smae.evaluate(run=outcome.run.path, probes=["centroid"], device="cpu")

    assert outcome.loss > 0
    assert {row.mode for row in evaluation.rows} == {"centroid"}
    assert all(0 <= row.top1 <= 1 for row in evaluation.rows)


@pytest.mark.usefixtures("fresh_registries")
def test_the_source_keeps_the_contract_of_sources_and_its_store_can_be_trained_on(sandbox_folder: Path) -> None:
    space = run_python(DOCS / "custom-dataset.md")

    suite = space["TestLabCsv"]()
    tests = [test for test in dir(suite) if test.startswith("test_")]
    assert len(tests) >= 6
    for test in tests:
        (sandbox_folder / test).mkdir()
        getattr(suite, test)(sandbox_folder / test)
    damaged = sandbox_folder / "lab" / "wave_p02_01.csv"
    damaged.write_text(damaged.read_text().replace(",", ";", 1))
    summary = smae.prepare("lab", "damaged.zarr", source="lab-csv", executor="inline")
    assert [(bad.path, bad.code) for bad in summary.quarantined] == [("wave_p02_01.csv", "csv")]

    outcome = smae.pretrain(
        data="lab.zarr", protocol="xsub", recipe="demo", settings=BRIEF, device="cpu", out="lab-run"
    )
    about = outcome.run.describe()["store"]
    assert about["prepared"]["source"] == "lab-csv"
    expected = {"dataset": "lab", "mode": "reference", "layout": "kinect20", "clips": 6}
    assert {key: about[key] for key in expected} == expected


@pytest.mark.usefixtures("fresh_registries", "sandbox_folder")
def test_a_layout_of_ones_own_goes_from_source_to_training() -> None:
    space = run_python(DOCS / "custom-dataset.md") | run_python(DOCS / "layouts.md")
    lab = space["LabCsv"]
    lab.layout = space["UPPER"]
    lab.parse = lambda self, data, **options: space["single_body_recording"](
        np.loadtxt(bytes(data).decode().splitlines(), delimiter=",").reshape(-1, 20, 3)[:, :9] / 1000,
        layout=self.layout,
        **options,
    )
    smae.prepare("lab", "upper.zarr", source="lab-csv", executor="inline")
    assert smae.open_store("upper.zarr").layout == space["UPPER"]
    outcome = smae.pretrain(
        data="upper.zarr", protocol="xsub", recipe="demo", settings=BRIEF, device="cpu", out="upper-run"
    )
    with pytest.raises(smae.errors.DataError, match=r"was trained on layout upper9, .*lab\.zarr holds kinect20"):
        smae.evaluate(run=outcome.run.path, data="lab.zarr", device="cpu")
    LAYOUTS._members.pop("upper9")
    # The store carries its joints.
    assert smae.open_store("upper.zarr").layout == space["UPPER"]

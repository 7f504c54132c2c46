"""The documentation holds: its Python runs, its command lines parse, its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import smae
from smae_cli.main import smae as command_line

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BRIEF = ("train.max_steps=1", "train.batch=4", "augment.frames=24", "linear.epochs=2", "linear.views=1")
SKETCHES = ("architecture.md",)
"""Pages whose Python shows interfaces, not programs."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def command_lines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.splitlines():
                if line.startswith("smae "):
                    yield name(page), line.split("  #")[0]


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_command_lines_parse(page: str, line: str) -> None:
    arguments = shlex.split(line)[1:]
    context = click.Context(command_line, info_name="smae")
    word, command, rest = command_line.resolve_command(context, arguments)
    assert command is not None, f"{page}: no command '{word}'"
    command.make_context(word, rest, parent=context)  # raises UsageError for an unknown option or a bad value


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_toml_and_json_blocks_parse(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)
    for block in blocks(page, "json"):
        json.loads(block)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    smae.synthesise(folder / "ntu", actions=2, subjects=3, cameras=1, replications=1, hard=False)
    return smae.prepare(folder / "ntu", folder / "ntu.zarr", executor="inline", missing_list=False).store


@pytest.fixture
def workplace(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder as a reader of the pages would have it: a small store and nothing else."""
    (tmp_path / "ntu.zarr").symlink_to(store)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fresh_registries() -> Iterator[None]:
    """Take back what the examples register, so that no other test sees it."""
    from smae.data.sources import SOURCES
    from smae.skeleton import LAYOUTS
    from smae.train.config import FAMILIES
    from smae.train.probes import probes

    registries = [*FAMILIES.values(), probes, SOURCES, LAYOUTS]
    before = [dict(registry._members) for registry in registries]
    yield
    for registry, members in zip(registries, before, strict=True):
        registry._members = members


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python") and p.name not in SKETCHES], ids=name)
@pytest.mark.usefixtures("fresh_registries", "workplace")
def test_python_blocks_run(page: Path) -> None:
    if page.name == "evaluating.md":
        smae.pretrain(out="runs/trial", recipe="demo", sets=BRIEF, device="cpu")
    for block in blocks(page, "python"):
        run_block(block, page)


def run_block(block: str, page: Path) -> None:
    exec(compile(block, name(page), "exec"), {"__name__": "__example__"})


@pytest.mark.usefixtures("fresh_registries")
def test_the_readme_masking_works_as_an_installed_plug_in(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = ROOT / "README.md"
    (code,) = (block for block in blocks(readme, "python") if "maskings.register" in block)
    (entry,) = (block for block in blocks(readme, "toml") if "smae.maskings" in block)
    (workplace / "window.py").write_text(code)
    about = workplace / "window-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: window\nVersion: 0.1\n")
    group = entry.replace('[project.entry-points."smae.maskings"]', "[smae.maskings]")
    (about / "entry_points.txt").write_text(group.replace('"', ""))
    monkeypatch.syspath_prepend(workplace)

    outcome = smae.pretrain(
        out="runs/window", recipe="demo", device="cpu",
        sets=["masking.name=window", "masking.keep=0.3", *BRIEF],
    )  # fmt: skip

    assert outcome.run.describe()["config"]["masking"] == {"name": "window", "keep": 0.3}


@pytest.mark.usefixtures("fresh_registries", "workplace")
def test_the_example_objective_trains_and_the_example_probe_judges_it() -> None:
    page = ROOT / "docs" / "plugins.md"
    for block in blocks(page, "python"):
        run_block(block, page)

    outcome = smae.pretrain(recipe="demo", sets=["objective.name=teacher-features", *BRIEF], device="cpu")
    _, evaluation = smae.evaluate(checkpoint=outcome.run.path, modes=["centroid"], device="cpu")

    assert outcome.loss > 0
    assert {row.mode for row in evaluation.rows} == {"centroid"}
    assert all(0 <= row.top1 <= 1 for row in evaluation.rows)


@pytest.mark.usefixtures("fresh_registries")
def test_the_example_source_keeps_the_contract_of_sources_and_its_store_can_be_trained_on(workplace: Path) -> None:
    page = ROOT / "docs" / "custom-dataset.md"
    space: dict[str, object] = {"__name__": "__example__"}
    for block in blocks(page, "python"):
        exec(compile(block, name(page), "exec"), space)

    suite = space["TestLabCsv"]()
    tests = [test for test in dir(suite) if test.startswith("test_")]
    assert len(tests) >= 6
    for test in tests:
        (workplace / test).mkdir()
        getattr(suite, test)(workplace / test)
    spoiled = workplace / "lab" / "wave_p02_01.csv"
    spoiled.write_text(spoiled.read_text().replace(",", ";", 1))
    summary = smae.prepare("lab", "spoiled.zarr", source="lab-csv", executor="inline")
    assert [(bad.path, bad.code) for bad in summary.quarantined] == [("wave_p02_01.csv", "csv")]

    outcome = smae.pretrain(data="lab.zarr", protocol="xsub", recipe="demo", sets=BRIEF, device="cpu", out="lab-run")
    assert outcome.run.describe()["store"] | {"path": "", "fingerprint": ""} == {
        "path": "", "fingerprint": "", "dataset": "lab", "mode": "reference", "layout": "kinect20", "clips": 6,
    }  # fmt: skip


@pytest.mark.usefixtures("fresh_registries", "workplace")
def test_a_layout_of_ones_own_goes_from_source_to_training() -> None:
    import numpy as np

    space: dict[str, object] = {"__name__": "__example__"}
    for block in blocks(ROOT / "docs" / "custom-dataset.md", "python"):
        exec(compile(block, "custom-dataset.md", "exec"), space)
    lab = space["LabCsv"]
    lab.layout = space["UPPER"]
    lab.parse = lambda self, data, **options: space["one_body"](
        np.loadtxt(bytes(data).decode().splitlines(), delimiter=",").reshape(-1, 20, 3)[:, :9] / 1000,
        layout=self.layout,
        **options,
    )
    smae.prepare("lab", "upper.zarr", source="lab-csv", executor="inline")
    assert smae.open_store("upper.zarr").layout == space["UPPER"]
    outcome = smae.pretrain(
        data="upper.zarr", protocol="xsub", recipe="demo", sets=BRIEF, device="cpu", out="upper-run"
    )
    with pytest.raises(smae.errors.DataError, match=r"was trained on layout upper9, .*lab\.zarr holds kinect20"):
        smae.evaluate(checkpoint=outcome.run.path, data="lab.zarr", device="cpu")
    smae.skeleton.LAYOUTS._members.pop("upper9")
    with pytest.raises(smae.errors.DataError, match="unknown layout 'upper9': expected one of kinect20, ntu25"):
        smae.open_store("upper.zarr")


@pytest.mark.usefixtures("fresh_registries")
def test_the_readme_masking_shows_one_stretch_of_time() -> None:
    import torch

    from smae.config import check
    from smae.models.masking import maskings
    from smae.models.tokens import Grid
    from smae.noise import Noise
    from smae.skeleton import NTU25
    from smae.testing.maskings import check_masking

    (code,) = (block for block in blocks(ROOT / "README.md", "python") if "maskings.register" in block)
    run_block(code, ROOT / "README.md")
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

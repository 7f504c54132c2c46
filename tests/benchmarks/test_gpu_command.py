"""`make gpu` in small on a processor: every part runs in its own process, the summary says what came of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["tests/train/test_on_device.py", "-k", "losses_are_those_of_the_cpu and skeletonmae"]


def command(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--device", "cpu", "--small", *options]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
def test_all_parts_run_on_a_processor(tmp_path: Path) -> None:
    done = command(tmp_path, "--minutes", "0.02", "--", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "summary.json").read_text())["parts"]
    assert parts == dict.fromkeys(["tests", *gpu.PARTS], "done")
    text = (tmp_path / "summary.md").read_text()
    assert "Tests: 1 tests, 0 failures, 0 errors, 0 skipped" in text
    assert "`train.kernel`: not measured" in text
    for name in gpu.PARTS:
        report = json.loads((tmp_path / f"{name}.json").read_text())
        assert report["figures"]
        assert (tmp_path / f"{name}.md").read_text().startswith(f"# {name}")


def test_a_part_that_fails_loses_nothing_of_the_others(tmp_path: Path) -> None:
    done = command(tmp_path, "--part", "masking", "--part", "tests", "--", "tests/no_such_file.py")
    assert done.returncode == 1
    parts = json.loads((tmp_path / "summary.json").read_text())["parts"]
    assert parts["masking"] == "done"
    assert parts["tests"].startswith("failed (exit 4)")


def test_figures_speak_for_defaults() -> None:
    figure = {"name": "joints, triton / torch", "value": 1.8}
    lines = gpu.advice(
        {"augment": {"figures": [figure]}, "step": {"figures": [{"name": "compiled / not", "value": 1.01}]}}
    )
    assert lines == [
        "`train.kernel` = triton (joints, triton / torch: 1.80)",
        "`masking.kernel`: not measured (masking: spatial-temporal, triton / torch)",
        "`train.compile` = false (compiled / not: 1.01)",
    ]


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path), "--device", "cpu"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "sees no GPU here; --small tries the command" in done.stderr

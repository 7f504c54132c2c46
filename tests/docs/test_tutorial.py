"""The tutorial notebook: its cells run from an empty folder, and print what it shows; it is small and clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.notebook import TUTORIAL, read, run
from tests.docs.sandbox import shape


def printed(outputs: list[dict[str, object]]) -> list[str]:
    """Return the lines of a cell's outputs, but for figures and numbers; a picture is one line."""
    lines: list[str] = []
    for output in outputs:
        lines += [shape(line) for line in output["text"]] if "text" in output else ["a figure"]
    return lines


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_registries")
def test_every_cell_runs_and_prints_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = read()
    shown = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = run(notebook)
    assert [printed(outputs) for outputs in found] == [printed(outputs) for outputs in shown]
    assert (tmp_path / "runs/mine/run.json").is_file()


def test_it_is_small_and_holds_nothing_of_the_machine_it_ran_on() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert "/tmp/" not in text
    notebook = read()
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(set(cell) >= {"id", "metadata", "outputs", "source"} for cell in code)
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert {output["output_type"] for cell in code for output in cell["outputs"]} <= {"stream", "display_data"}

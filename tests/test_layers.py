"""The layers of docs/architecture.md, checked by walking the imports; help imports nothing heavy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FACADES = {"smae"}
"""What outsiders import: they reach everything from inside functions, so circles through them are none at run time."""

LAYERS = {
    "smae_cli": 8,
    "smae.testing": 7,
    "smae.viz": 6,
    "smae.eval": 5,
    "smae.train": 4,
    "smae.diagnostics": 4,
    "smae.data": 3,
    "smae.models": 3,
    "smae.config": 2,
    "smae.jit": 2,
    "smae.atomic_io": 1,
    "smae.skeleton": 1,
    "smae.registry": 1,
    "smae.errors": 1,
    "smae.rng": 1,
    "smae.interrupts": 1,
    "smae.progress": 1,
    "smae.tables": 1,
}
APART = [("smae.data", "smae.models"), ("smae.models", "smae.data")]
"""Packages of one layer that do not import each other."""


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in (("smae", "smae"), ("cli", "smae_cli")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def package_of(module: str) -> str:
    return max((name for name in LAYERS if module == name or module.startswith(name + ".")), key=len, default="")


def imported(module: str, *, inner: bool = True) -> set[str]:
    """Return smae's modules that a module imports: at the top, and with ``inner`` anywhere in it."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if inner else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the full name"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return {name for name in found if name in MODULES}


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    state: dict[str, int] = {}

    def visit(node: str, path: list[str]) -> Iterator[list[str]]:
        state[node] = 1
        for other in sorted(graph[node]):
            if state.get(other) == 1:
                yield [*path[path.index(other) :], other]
            elif other not in state:
                yield from visit(other, [*path, other])
        state[node] = 2

    for node in graph:
        if node not in state:
            yield from visit(node, [node])


def test_every_module_has_a_layer():
    assert [module for module in MODULES if module != "smae" and not package_of(module)] == []


@pytest.mark.parametrize("module", [name for name in MODULES if name != "smae"])
def test_a_module_imports_from_lower_layers_only(module):
    package = package_of(module)
    for other in imported(module) - {"smae"}:
        if package_of(other) == package:
            continue
        below = LAYERS[package_of(other)] < LAYERS[package]
        foundation = LAYERS[package] == LAYERS[package_of(other)] <= 2
        assert below or foundation, f"{module} ({package}) imports {other}"
        pair = (package, package_of(other))
        assert pair not in APART, f"{module} imports {other}: these packages do not import each other"


def test_circles_are_found_where_there_are_some():
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == [["b", "c", "b"]]


def test_no_imports_go_in_a_circle():
    graph = {name: imported(name) - FACADES for name in MODULES if name not in FACADES}
    assert [" -> ".join(circle) for circle in circles(graph)] == []


def test_the_loop_knows_no_method():
    methods = ("smae.train.objectives.", "smae.models", "smae.eval.probes")
    assert [name for name in imported("smae.train.loop") if name.startswith(methods)] == []
    text = MODULES["smae.train.loop"].read_text().lower()
    assert [
        word for word in ("mask", "encoder", "decoder", "reconstruct", "teacher", "skeletonmae") if word in text
    ] == []


@pytest.mark.parametrize("module", [name for name in MODULES if package_of(name) == "smae_cli"])
def test_the_command_line_calls_public_functions_only(module):
    allowed = ("smae_cli", "smae.errors", "smae.interrupts", "smae.progress", "smae.tables")
    allowed += ("smae.data.prepare", "smae.data.clean", "smae.data.synthetic")
    tops = {name for name in imported(module, inner=False) if name != "smae"}
    assert [name for name in tops if not name.startswith(allowed)] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_its_one_job_in_its_first_line(module):
    doc = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    assert doc, f"{module} has no docstring"
    assert doc.splitlines()[0].endswith((".", ":")), f"{module}: the docstring's first line is no whole sentence"


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["pretrain", "--help"], ["prepare", "--help"], ["eval", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import contextlib, io, json, sys\n"
        "from smae_cli.main import run\n"
        "with contextlib.redirect_stdout(io.StringIO()) as text:\n"
        f"    code = run({arguments!r})\n"
        "heavy = [m for m in ('torch', 'zarr', 'numba', 'numpy', 'matplotlib', 'pydantic') if m in sys.modules]\n"
        "print(json.dumps([code, heavy, 'Usage' in text.getvalue()]))\n"
    )
    assert json.loads(python(code)) == [0, [], True]


def test_importing_smae_is_instant_and_knows_its_functions():
    code = "import smae, sys; print('torch' in sys.modules, 'zarr' in sys.modules, callable(smae.pretrain), dir(smae))"
    assert python(code).startswith("False False True")

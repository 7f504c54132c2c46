"""What is installed: every package folder, every data file, and pins for everything that is asked for."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
CODE = (".py", ".pyc")


def package_folders() -> dict[str, Path]:
    found = {}
    for name, folder in (("smae", ROOT / "smae"), ("smae_cli", ROOT / "cli")):
        for init in folder.rglob("__init__.py"):
            found[".".join([name, *init.parent.relative_to(folder).parts])] = init.parent
    return found


def test_every_package_folder_is_listed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(package_folders())


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {module.parent for module in (ROOT / "smae").rglob("*.py")}
    assert folders - set(package_folders().values()) == set()


def test_every_data_file_is_declared_and_found_as_a_resource() -> None:
    patterns = SETUPTOOLS["package-data"]["*"]
    seen = []
    for package, folder in package_folders().items():
        # Folders without modules, such as lists/, belong to the package above; patterns name them.
        for path in [
            *folder.iterdir(),
            *folder.glob("lists/*"),
            *folder.glob("recipes/*"),
            *folder.glob("templates/*"),
        ]:
            if path.is_file() and path.suffix not in CODE and not path.name.startswith("."):
                name = path.relative_to(folder).as_posix()
                found = [pattern for pattern in patterns if pattern.count("/") == name.count("/")]
                assert any(path.match(pattern) for pattern in found), f"{path} would not be installed"
                assert (files(package) / name).read_bytes() == path.read_bytes()
                seen.append(path.name)
    assert {"py.typed", "base.toml", "ntu_missing.txt", "page.html", "player.js", "player.css"} <= set(seen)


def pins() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {canonical(line.split("==")[0]): line for line in lines if line}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[str]:
    project = PROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    asked = [canonical(re.split(r"[\[<>=~!; ]", line)[0]) for line in project["dependencies"] + extras]
    return sorted({name for name in asked if name != "smae"})


@pytest.mark.parametrize("name", requirements())
def test_every_requirement_is_pinned(name: str) -> None:
    assert re.search(r"==\d", pins()[name])


def imported() -> set[str]:
    """Return the top-level names of everything that smae and its command line import, wherever they do."""
    names = set()
    for folder in ("smae", "cli"):
        for module in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"smae", "smae_cli"}


IMPORT_NAMES = {"pil": "pillow", "rerun": "rerun-sdk"}
"""Packages that are imported under another name than they are installed by."""


def test_every_import_is_a_declared_dependency_and_the_other_way_round() -> None:
    declared = {canonical(re.split(r"[<>=~!; ]", line)[0]) for line in PROJECT["project"]["dependencies"]}
    optional = {
        "distributed": "dask",
        "huggingface-hub": "hub",
        "obstore": "objects",
        "rerun": "rerun",
        "pyarrow": "parquet",
        "triton": "triton",
        "wandb": "wandb",
    }
    extras = PROJECT["project"]["optional-dependencies"]
    for name, extra in optional.items():
        assert IMPORT_NAMES.get(name, name) in {re.split(r"[<>=~!; ]", line)[0] for line in extras[extra]}
    # The pose worker runs in an environment of its own.
    names = {canonical(name) for name in imported()} - set(optional) - {"cv2", "mediapipe"}
    assert {IMPORT_NAMES.get(name, name) for name in names} == declared


def test_pins_name_no_local_build_and_no_index() -> None:
    for line in pins().values():
        assert re.fullmatch(r"[\w.-]+==[\w.]+(; python_version [<>=]+ \"3\.\d+\")?", line), line


def test_the_licence_is_there_in_full() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text

"""When a Triton kernel is taken; and all compile for a GPU that need not be here: the interpreter forgives much."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from smae import kernels
from smae.errors import EnvironmentFault


def wanted(choice: kernels.Choice, *, on_gpu: bool, fits: bool = True) -> bool:
    return kernels.wanted(choice, on_gpu=on_gpu, setting="masking.kernel", fits=fits)


def test_a_kernel_is_taken_on_a_gpu_alone_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: name)
    assert [wanted("auto", on_gpu=on_gpu) for on_gpu in (False, True)] == [False, True]
    assert [wanted("torch", on_gpu=on_gpu) for on_gpu in (False, True)] == [False, False]
    assert not wanted("auto", on_gpu=True, fits=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert wanted("triton", on_gpu=True)
    with pytest.raises(EnvironmentFault, match=r"masking\.kernel=triton needs a GPU"):
        wanted("triton", on_gpu=False)
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert not wanted("auto", on_gpu=True)
    with pytest.raises(EnvironmentFault, match=r"needs Triton \(pip install"):
        wanted("triton", on_gpu=True)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="Triton's assembler for this processor may not be there")
def test_every_kernel_compiles_to_machine_code(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: pip install 'smae[triton]'")
    root = Path(__file__).resolve().parents[1]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_program.py"))],
        env=environment, cwd=root, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, _ in sizes} == {"_flat", "_motion_aware", "_product", "_body_part", "_items"}
    assert all(int(size) > 1000 for _, size in sizes)

"""The kernels compile for a GPU, whether one is here or not: the interpreter forgives what the compiler does not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: pip install 'smae[triton]'")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="Triton's assembler for this processor may not be there")
def test_every_kernel_compiles_to_machine_code(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_program.py"))],
        env=environment, cwd=root, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = dict(line.split() for line in done.stdout.splitlines())
    assert set(sizes) == {"_flat", "_motion_aware", "_product", "_body_part"}
    assert all(int(size) > 1000 for size in sizes.values())

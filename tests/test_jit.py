"""The kernel cache (filled once, loaded later, healed when damaged, skipped when unusable), and when Triton is used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from smae import jit
from smae.errors import EnvironmentFault

ROOT = Path(__file__).resolve().parents[1]
KERNEL = """
from smae.jit import njit

@njit("int64(int64)", allocates=False)
def double(x):
    return 2 * x

if __name__ != "__main__":
    assert double(21) == 42 and double.py_func(21) == 42
    print(sum(double.stats.cache_hits.values()))
"""


def hits(folder: Path, cache: Path, **settings: str) -> int:
    """Import a module with one kernel in a new Python; return how many kernels came from the cache."""
    module = folder / "kernels_to_test.py"
    if not module.exists():
        module.write_text(KERNEL)  # once: Numba compiles anew what is younger than its cache
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")}
    environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "XDG_CACHE_HOME": str(cache), **settings}
    command = [sys.executable, "-W", "error", "-c", "import kernels_to_test"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_kernel_comes_from_the_cache_and_a_damaged_cache_heals(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert hits(tmp_path, cache) == 0
    assert hits(tmp_path, cache) == 1
    (index,), (code,) = cache.rglob("*.nbi"), cache.rglob("*.nbc")
    for path, content in ((index, index.read_bytes()[:40]), (code, code.read_bytes()[:999])):
        path.write_bytes(content)
        assert hits(tmp_path, cache) == 0
        assert path.stat().st_size > len(content)
    assert hits(tmp_path, cache) == 1


def test_an_unusable_cache_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert hits(tmp_path, tmp_path / "file") == 0


def test_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert hits(tmp_path, cache) == 0
    (folder,) = (cache / "smae").iterdir()
    folder.chmod(0o777)
    # It is thrown away, and a private one takes its place.
    assert hits(tmp_path, cache) == 0
    assert (next((cache / "smae").iterdir()).stat().st_mode & 0o777) == 0o700


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_read_only_cache_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert hits(tmp_path, tmp_path / "cache") == 0


def use_triton(choice: jit.KernelChoice, *, on_gpu: bool, fits: bool = True) -> bool:
    return jit.use_triton(choice, on_gpu=on_gpu, setting="masking.kernel", fits=fits)


def test_a_kernel_is_taken_on_a_gpu_alone_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "find_spec", lambda name: name)
    assert [use_triton("auto", on_gpu=on_gpu) for on_gpu in (False, True)] == [False, True]
    assert [use_triton("torch", on_gpu=on_gpu) for on_gpu in (False, True)] == [False, False]
    assert not use_triton("auto", on_gpu=True, fits=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert use_triton("triton", on_gpu=True)
    with pytest.raises(EnvironmentFault, match=r"masking\.kernel=triton needs a GPU"):
        use_triton("triton", on_gpu=False)
    monkeypatch.setattr(jit, "find_spec", lambda name: None)
    assert not use_triton("auto", on_gpu=True)
    with pytest.raises(EnvironmentFault, match=r"needs Triton \(pip install"):
        use_triton("triton", on_gpu=True)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="Triton's assembler for this processor may not be there")
def test_every_kernel_compiles_to_machine_code(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: pip install 'smae[triton]'")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("compile_program.py"))]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    sizes = [line.split() for line in done.stdout.splitlines()]
    maskings = {"_by_score", "_spatial_temporal", "_body_part"}
    assert {name for name, _ in sizes} == maskings | {"_items"}
    assert all(int(size) > 1000 for _, size in sizes)

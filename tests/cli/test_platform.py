"""Where a system lacks what smae needs, as Windows does, one line says so before anything else fails."""

from __future__ import annotations

import subprocess
import sys

import pytest

LINE = "smae: smae runs on Linux and macOS; on Windows, install and run it inside WSL"
LACKING = {
    "fcntl": "import sys; sys.modules['fcntl'] = None",
    "O_NOFOLLOW": "import os; del os.O_NOFOLLOW",
}


@pytest.mark.parametrize("what", LACKING)
def test_another_system_is_refused_in_one_line(what: str) -> None:
    program = f"{LACKING[what]}\nfrom smae_cli.main import main\nmain(['info'])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(LINE)
    assert ended.stderr.count("\n") == 1


def test_as_a_library_it_is_an_import_error() -> None:
    program = f"{LACKING['fcntl']}\ntry:\n    import smae\nexcept ImportError as error:\n    print(error)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "WSL" in ended.stdout

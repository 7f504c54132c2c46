from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smae.atomic_io import exchange


@pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged in one step on Linux alone")
def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    if not exchange(tmp_path / "old", tmp_path / "new"):
        pytest.skip("this file system cannot exchange names")
    assert [(tmp_path / name / "content").read_text() for name in ("old", "new")] == ["new", "old"]
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "old", tmp_path / "none")

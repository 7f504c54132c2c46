"""Commands run as a program would run them: with ``--json``, in the folder of the module's own ``home``."""

from __future__ import annotations

import json

import pytest

from smae_cli.main import run


@pytest.fixture
def smae(home, monkeypatch, capsys):
    """Return a function that runs a command with ``--json`` in the folder: (exit code, result, standard error)."""
    monkeypatch.chdir(home)

    def call(*args):
        capsys.readouterr()
        code = run([*map(str, args), "--json"])
        out, err = capsys.readouterr()
        result = json.loads(out)
        assert result.pop("version") == 1
        return code, result, err

    return call

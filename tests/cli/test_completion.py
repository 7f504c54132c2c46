"""Shell completion and help: the scripts are click's own, and each command's help shows how it is called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from smae_cli import choices
from smae_cli.main import COMMANDS, run
from smae_cli.main import smae as command_line


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef smae"), ("fish", "complete ")])
def test_the_script_of_a_shell_is_printed(shell, words, capsys):
    assert run(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert words in text
    assert f"_SMAE_COMPLETE={shell}_complete" in text


@pytest.mark.parametrize(
    ("typed", "place", "expected"),
    [("smae pre", 1, {"predict", "prepare", "pretrain"}), ("smae view --cl", 2, {"--clip"})],
)
def test_commands_and_options_are_completed(typed, place, expected):
    asked = {"_SMAE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(place)}
    done = subprocess.run(
        [sys.executable, "-m", "smae_cli.main"], env=os.environ | asked, capture_output=True, text=True, timeout=60
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} == expected


def test_another_shell_is_refused():
    assert run(["completion", "tcsh"]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_parse(name, capsys, monkeypatch):
    # What the examples name need not be there.
    for kind in (choices.RUN, choices.STORE, choices.WEIGHTS):
        monkeypatch.setattr(kind, "_check", str)
    assert run([name, "--help"]) == 0
    lines = re.findall(rf"^ +(smae {name}\b.*)$", capsys.readouterr().out, re.MULTILINE)
    examples = [line for line in lines if "Usage" not in line]
    assert examples, f"smae {name} --help shows no example"
    context = click.Context(command_line, info_name="smae")
    for line in examples:
        words = shlex.split(re.sub(r"  +\(.*| >.*", "", line))[1:]
        word, command, rest = command_line.resolve_command(context, words)
        assert command is not None
        command.make_context(word, rest, parent=context)

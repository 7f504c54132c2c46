"""``smae completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from smae_cli import console


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@console.json_option
def command(shell: str) -> None:
    """Print the script that completes smae's commands and options in a SHELL.

    \b
    Examples:
      smae completion bash >> ~/.bashrc
      smae completion zsh >> ~/.zshrc
      smae completion fish > ~/.config/fish/completions/smae.fish

    It takes effect in the next shell.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"
    script = kind(click.Group("smae"), {}, "smae", "_SMAE_COMPLETE").source()
    console.result({"shell": shell, "script": script}, lambda: console.echo(script))

"""The ``smae`` command: imports a subcommand when it runs; turns errors into a line and a code."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
import traceback

import click

from smae import __version__, interrupts
from smae.errors import EXIT_BUG, EXIT_ENVIRONMENT, SmaeError
from smae_cli import console

COMMANDS = {
    "prepare": "Turn raw .skeleton files or zips into a Zarr store.",
    "capture": "Turn videos into recordings.",
    "info": "Show what a store holds.",
    "convert": "Map a store to another joint layout.",
    "split": "Give a store train and test parts of your own.",
    "verify": "Check every byte of a store.",
    "view": "Draw a clip as an interactive 3D page, a GIF or a strip of frames.",
    "explain": "Show how one recording was processed, step by step.",
    "export": "Write a store in another format: CTR-GCN, pyskl, HDF5.",
    "pretrain": "Pre-train an encoder on a store.",
    "eval": "Evaluate a pre-trained encoder, beside its baselines.",
    "ensemble": "Evaluate several runs together: joint, bone and motion streams.",
    "report": "Write a run's page: curves, results, reconstructions.",
    "status": "List runs with their state, and unfinished preparations.",
    "doctor": "Check this machine: versions, GPU, disk, what is missing.",
    "recipes": "List the packaged recipes.",
    "export-encoder": "Write a run's encoder as a self-contained folder.",
    "import-weights": "Write a published checkpoint's encoder as such a folder.",
    "embed": "Write the features of a store's clips.",
    "predict": "Classify your own recordings.",
    "new": "Begin a masking, objective, encoder or source of your own.",
    "bench": "Compare the speed of smae with naive code and hardware limits.",
    "synth": "Write synthetic raw recordings to try things on.",
    "completion": "Print the shell completion script.",
}
"""Commands in the order of work; completion is below."""

TOGETHER = {
    "store": "info explain view verify convert split export",
    "pretrain": "pretrain recipes",
    "encoders": "export-encoder import-weights embed predict",
    "evaluation": "eval ensemble",
    "runs": "status report",
    "machine": "doctor bench",
    "recordings": "capture synth",
}
"""Modules of several commands, each ``<command>_command``.

Any other command is ``command`` of the module of its name.
"""
_MODULES = {name: module for module, names in TOGETHER.items() for name in names.split()}

RENAMED = {
    "convert": {"--to": "--layout"},
    "eval": {"--mode": "--probe", "--checkpoint": "--run"},
    "ensemble": {"--mode": "--probe"},
    "predict": {"--mode": "--probe"},
    **{name: {"--to": "--out"} for name in ("embed", "export", "export-encoder", "view")},
}
"""Options under their names of version 0.1, which the next version does not know any more."""


class Commands(console.Group):
    """A group that imports a command only when it runs, so that help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of work."""
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; options under earlier names get their new ones, with a note."""
        name, command, rest = super().resolve_command(ctx, args)
        renamed = RENAMED.get(name or "", {})
        for number, word in enumerate(rest):
            old, equals, value = word.partition("=")
            if word == "--":
                break
            if old in renamed:
                console.note(f"{old} is now {renamed[old]}; the next version does not know {old} any more")
                rest[number] = f"{renamed[old]}{equals}{value}"
        return name, command, rest

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, imported now."""
        if name == "completion":
            return completion
        if name not in COMMANDS:
            return None
        word = name.replace("-", "_")
        attribute = "command"
        if name in _MODULES:
            attribute = f"{word}_command"
        module = importlib.import_module(f"smae_cli.{_MODULES.get(name, word)}")
        command: click.Command = getattr(module, attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table above, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="smae")
def smae() -> None:
    """Self-supervised skeleton action recognition: raw recordings to evaluated encoders.

    \b
    In a folder that holds ntu/ (NTU RGB+D's zips or .skeleton files):
      smae prepare --raw ntu/ --out ntu.zarr
      smae pretrain
      smae eval --protocol xsub

    \b
    Exit codes: 0 done, 1 a bug in smae or in a plug-in, 2 usage or settings, 3 done but some files were bad,
    4 data cannot be used, 5 disk, memory or device, 6 locked by another process,
    7 non-finite loss, 130 / 143 interrupted (resumable).
    """


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@console.json_option
def completion(shell: str) -> None:
    """Print the script that completes smae's commands and options in a SHELL.

    \b
    Examples:
      smae completion bash >> ~/.bashrc
      smae completion zsh >> ~/.zshrc
      smae completion fish > ~/.config/fish/completions/smae.fish

    It takes effect in the next shell.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"
    script = kind(click.Group("smae"), {}, "smae", "_SMAE_COMPLETE").source()
    console.result({"shell": shell, "script": script}, lambda: console.echo(script))


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    _open_streams()
    code = run(args)
    if threading.current_thread() is threading.main_thread():
        # The command has ended, and its exit code stands: a late signal must not change it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


def _open_streams() -> None:
    """Open closed standard streams on the null device: no file may get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def run(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name or bar that the terminal cannot show must not stop the work.
            stream.reconfigure(errors="replace")
    words = sys.argv[1:] if args is None else args
    # Known before the options are read, so that an error in them is JSON too.
    console.use_json("--json" in words[: [*words, "--"].index("--")])
    try:
        with interrupts.deferred(), console.feedback():
            code = smae.main(args=args, prog_name="smae", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        console.usage_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # What click's Abort came from is its cause, or before click 8.2 its context alone.
        cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__ or error.__context__
        code = int(128 + getattr(cause, "signal", signal.SIGINT))
        console.failed("interrupted", kind="Interrupted", code=code)
        return code
    except SmaeError as error:
        console.failed(str(error), kind=type(error).__name__, code=error.exit_code)
        return error.exit_code
    except (BrokenPipeError, SystemExit):
        # The reader has closed the pipe (`| head`), which click and rich turn into SystemExit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError) as error:
        console.failed(f"{type(error).__name__}: {error}", kind=type(error).__name__, code=EXIT_ENVIRONMENT)
        return EXIT_ENVIRONMENT
    except Exception as error:
        from smae.registry import plugin_at_fault

        traceback.print_exc()
        message, plugin = f"{type(error).__name__}: {error}", plugin_at_fault(error)
        if plugin:
            console.failed(f"an error of a plug-in, {plugin}: {message}", kind=type(error).__name__)
        else:
            console.failed(
                f"a bug of smae's: {message}; please report it with the lines above", kind=type(error).__name__
            )
        return EXIT_BUG


if __name__ == "__main__":
    main()

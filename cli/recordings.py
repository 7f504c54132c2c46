"""``smae capture``, ``smae synth``: make raw recordings, of videos or of a kinematic model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import smae
from smae.data.synthetic import LIMITS, SynthSettings
from smae_cli import choices, console


@click.command("capture")
@click.argument("videos", nargs=-1, type=choices.PATH)
@click.option("--out", type=choices.PATH, help="Folder of the recordings.")
@click.option("--overwrite", is_flag=True, help="Replace earlier recordings of the same names.")
@click.option("--setup", is_flag=True, help="Make the environment of MediaPipe (1.1 GB), once.")
@click.option("--python", help="With --setup: a Python 3.9 to 3.12; this one by default.")
@console.json_option
def capture_command(
    videos: tuple[Path, ...], out: Path | None, overwrite: bool, setup: bool, python: str | None
) -> None:
    """Turn VIDEOS of one person into .skeleton recordings, which the other commands read.

    Poses are MediaPipe's: 33 joints in metres around the hips, mapped to NTU's 25. Where a person
    walks is not in them. MediaPipe has an environment of its own, which --setup makes once.

    \b
    Examples:
      smae capture --setup
      smae capture clip.mp4 --out mine/
      smae predict mine/
    """
    if setup:
        version = smae.setup_capture(python)
        console.result({"mediapipe": version}, lambda: console.echo(f"MediaPipe {version} is set up"))
        return
    if not videos or out is None:
        raise click.UsageError("expected videos and --out FOLDER, or --setup")
    done = smae.capture(videos, out, overwrite=overwrite)
    rows = [(one.recording, f"{one.frames:,}", f"{one.with_person:,}") for one in done]
    value = {"recordings": [asdict(one) for one in done]}
    console.result(value, lambda: console.table(("recording", "frames", "with a person"), rows, left=1))


@click.command("synth")
@choices.argument_or_option("OUT", "--out", "out", choices.PATH, required=True)
@click.option(
    "--seed", type=click.IntRange(0, LIMITS.seed), default=SynthSettings.seed, help="Seed of people and noise."
)
@click.option(
    "--actions", type=click.IntRange(2, LIMITS.actions), default=SynthSettings.actions, help="Kinds of action."
)
@click.option("--subjects", type=click.IntRange(2, LIMITS.subjects), default=SynthSettings.subjects, help="People.")
@click.option(
    "--cameras",
    type=click.IntRange(1, LIMITS.cameras),
    default=SynthSettings.cameras,
    help="Views of each performance.",
)
@click.option(
    "--replications",
    type=click.IntRange(1, LIMITS.replications),
    default=SynthSettings.replications,
    help="Performances of each action by each person.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier folder of synthetic recordings.")
@console.json_option
def synth_command(out: Path, **options: Any) -> None:
    """Write NTU-format raw recordings of a kinematic model into the folder OUT.

    \b
    Examples:
      smae synth ntu
      smae synth small --actions 2 --subjects 3 --cameras 1 --replications 1
    """
    summary = smae.synthesise(out, **options)
    value = asdict(summary) | {"out": str(summary.out)}
    console.result(value, lambda: console.echo(f"{out}: {summary.files} recordings, {summary.frames} frames"))

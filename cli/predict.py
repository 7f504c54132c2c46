"""``smae predict``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import smae
from smae.errors import EXIT_DONE
from smae.tables import percent
from smae_cli import choices, console

if TYPE_CHECKING:
    from smae.eval.follow import WindowPrediction
    from smae.eval.predict import Prediction, Predictions


@click.command("predict")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--run", type=choices.RUN, help="The run whose head is used; the newest with a head by default, or else open-small."
)
@click.option("--head", type=choices.WEIGHTS, help="Folder of a head, or open-small, in place of --run.")
@click.option("--probe", type=choices.HEAD, help="Whose head: linear, finetune or transfer; finetune before linear.")
@click.option("--protocol", help="Protocol of the head; the run's own by default.")
@click.option("--source", type=choices.SOURCE, help="Kind of raw data; that of the training data by default.")
@click.option("--layout", type=choices.LAYOUT, help="Whose joints keypoints hold: mediapipe33, h36m17, ...")
@click.option(
    "--stride",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between two windows of a long recording; 1 by default.",
)
@click.option("--follow", "following", is_flag=True, help="FILE is still being written: classify it as it grows.")
@click.option(
    "--idle",
    type=click.FloatRange(min=0, min_open=True),
    help="With --follow: end after so many seconds without a new frame; otherwise Ctrl-C ends it.",
)
@click.option("--device", type=choices.DEVICE, default="auto", help="auto, cpu, cuda or cuda:N.")
@console.json_option
def command(files: tuple[Path, ...], following: bool, idle: float | None, **options: Any) -> int:
    """Classify raw recordings (FILES, or folders and zips of them) with a trained head.

    smae eval --probe linear or --probe finetune trains heads and keeps them in the run. Recordings are
    read, cleaned and cropped like the training data. A bad recording is an error (exit code 4), the
    one that prepare lists; among several it is listed, and the exit code is 3. One longer than every
    clip that the head was trained on is classified second by second. In a folder without runs the
    classes are those of open-small, which comes with smae; it says which.

    With --follow, FILE is one .skeleton file that grows, there already or not: a line (with --json an
    object a line) for each window, as soon as its last frame is written.

    \b
    Examples:
      smae predict mine/S001C001P001R001A001.skeleton
      smae predict mine/ --run runs/skeletonmae-xsub-001 --probe finetune
      smae predict take.json --layout mediapipe33
      smae predict --follow live.skeleton --stride 0.5
    """
    if not (options["head"] or options["probe"] or options["protocol"]):
        options["run"] = choices.newest(options["run"], needs="head", packaged=True)
    if following:
        return _follow(files, idle, options)
    if idle is not None:
        raise click.UsageError("--idle goes with --follow: add it, or leave --idle out")
    from smae.data.raw.recordings import check_there

    for file in files:
        check_there(file)
    predictions = smae.predict(files, **options)
    console.result(asdict(predictions), lambda: _text(predictions))
    return predictions.exit_code


def _follow(files: tuple[Path, ...], idle: float | None, options: dict[str, Any]) -> int:
    """Print the answers of a growing recording as they come."""
    known = [path for path in files if path.suffix.lower() == ".skeleton"]
    if len(files) != 1 or not known or options.pop("source") not in (None, "ntu") or options.pop("layout"):
        raise click.UsageError("--follow takes one .skeleton file, and neither --source nor --layout: leave them out")
    for one in smae.follow(files[0], idle=idle, **options):
        console.line(asdict(one), _window(one))
    return EXIT_DONE


def _window(one: WindowPrediction) -> str:
    what = "no body was recorded"
    if one.label is not None:
        what = ", ".join(f"{label} {percent(share)} %" for label, share in one.first[1:3])
        what = f"{one.label} {one.name}  {percent(one.probability)} %  then {what}"
    return f"{one.seconds[0]:7.1f} to {one.seconds[1]:7.1f} s  {what}"


def _track(one: Prediction, names: Mapping[str, str]) -> None:
    """Print the label track of a long recording, equal seconds in one line."""
    if one.track:
        console.echo(f"{one.path}, by second")
    for label, group in groupby(one.track, key=lambda second: second.label):
        seconds = list(group)
        mean = sum(second.probability for second in seconds) / len(seconds)
        what = "no body was recorded" if label is None else f"{names[label]}  {percent(mean)} %"
        console.echo(f"  {seconds[0].second:5} to {seconds[-1].second + 1:5} s  {what}")


def _text(predictions: Predictions) -> None:
    names, rows = predictions.names, []
    for one in predictions.found:
        others = [f"{names[label]} {percent(share)}" for label, share in one.first[1:3]]
        rows.append((one.path, names[one.label], percent(one.probability), ", ".join(others)))
    console.table(("recording", "class", "probability %", "then"), rows, title=predictions.head)
    for one in predictions.found:
        _track(one, names)
    for bad in predictions.quarantined:
        console.echo(f"  {bad}")
    for path in predictions.no_body:
        console.echo(f"  {path}: no body was recorded")

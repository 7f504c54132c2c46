"""``smae prepare``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import smae
from smae.data.clean import MAX_FRAMES, MODES
from smae.data.prepare import CODECS, EXECUTOR, EXECUTORS, MAX_BAD, UNITS, PrepareSettings
from smae_cli import choices, console

if TYPE_CHECKING:
    from smae.data.prepare.summary import PrepareSummary

_MAX_LISTED = 10


@click.command("prepare")
@click.option(
    "--raw",
    required=True,
    type=choices.PATH,
    help="Folder of .skeleton files and zips, at any depth, or one zip; other sources: their folder or file.",
)
@click.option("--out", required=True, help="The store to write, for example ntu.zarr or s3://bucket/ntu.zarr.")
@click.option(
    "--source",
    type=choices.SOURCE,
    default=PrepareSettings.source,
    help="Kind of data: ntu, ntu-npy, nw-ucla, utd-mhad, pku-mmd, keypoints, mocap, video; cleaned before: "
    "ctrgcn-npz, pyskl, hdf5, stgcn-npy.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default=PrepareSettings.mode,
    help="reference: as published numbers were computed; exact: bodies at their true frames, gaps marked.",
)
@click.option(
    "--frames",
    type=click.IntRange(1, MAX_FRAMES),
    help="Resample every clip to so many frames; kept as they are by default.",
)
@click.option(
    "--codec",
    type=click.Choice(CODECS),
    default=PrepareSettings.codec,
    help="How joints are stored: as they are, or in steps of 2^-12 m (0.24 mm), which take less than half the space.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one per core by default. Changes no byte.")
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    default=EXECUTOR,
    help="Where the work runs: processes of this machine, this process, or the workers of a Dask scheduler.",
)
@click.option("--scheduler", metavar="ADDRESS", help="The Dask scheduler, for example tcp://10.0.0.1:8786.")
@click.option("--resume", is_flag=True, help="Continue interrupted work; start if there is none.")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@click.option("--strict", is_flag=True, help="Refuse oddities that are tolerated otherwise; stop at a bad file.")
@click.option("--strict-names", is_flag=True, help="Count .skeleton files with other names than NTU's as bad.")
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=MAX_BAD,
    help="Largest share of bad files with which a store is published.",
)
@click.option(
    "--max-range",
    type=click.FloatRange(min=0, min_open=True),
    default=PrepareSettings.max_range,
    help="Metres; a file with larger coordinates is bad.",
)
@click.option(
    "--missing-list/--no-missing-list",
    default=PrepareSettings.missing_list,
    help="Leave out the samples that published results leave out.",
)
@click.option(
    "--classes",
    type=choices.PATH,
    help="Text file of class names, one per line or number,name; by default classes.txt in RAW if there is one.",
)
@click.option(
    "--layout",
    type=choices.LAYOUT,
    help="Whose joints arrays hold: ntu25, h36m17, coco17, mediapipe33, openpose25, azure32, ..., or a .toml file.",
)
@click.option(
    "--unit", type=click.Choice(list(UNITS)), help="Unit of the coordinates; metres, and checked, by default."
)
@click.option("--fps", type=click.FloatRange(1, 1000), help="Frames a second of keypoints; recorded in the store.")
@click.option(
    "--split",
    type=choices.PATH,
    help="File that lists clips by part (train, val, test), for a protocol of your own: .toml, .json, .csv or text.",
)
@console.json_option
def command(raw: Path, out: str, **options: Any) -> int:
    """Turn raw recordings into a chunked, checksummed Zarr store.

    \b
    Examples:
      smae prepare --raw ntu/ --out ntu.zarr
      smae prepare --raw nturgbd_skeletons_s001_to_s017.zip --out ntu60.zarr
      smae prepare --raw ntu/ --out ntu.zarr --resume

    A bad file never stops the run: it is listed in the store's quarantine.jsonl with its line, and the exit code is 3.
    """
    if raw.exists():
        from smae.data.prepare.executors import collect_rarely, warm_up

        collect_rarely()
        # Workers load their kernels while this process imports what it needs itself.
        warm_up(options["executor"], workers=options["workers"])
    summary = smae.prepare(raw, out, **options)
    console.result({**asdict(summary), "store": str(summary.store)}, lambda: _text(summary))
    return summary.exit_code


def _text(summary: PrepareSummary) -> None:
    bad = summary.quarantined
    console.show(summary)
    if summary.codec != "float32":
        console.echo(
            f"joints are stored as {summary.codec}: the largest error is {summary.largest_error * 1000:.3f} mm"
        )
    # The official list is long, and known.
    listed = [*bad, *(refused for refused in summary.left_out if refused.code != "missing-list")]
    for refused in listed[:_MAX_LISTED]:
        console.echo(f"  {refused}")
    if len(listed) > _MAX_LISTED:
        console.echo(
            f"  ... and {len(listed) - _MAX_LISTED} more: see quarantine.jsonl and excluded.jsonl in the store"
        )
    console.echo("next: smae info, smae pretrain")

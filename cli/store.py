"""Commands on a store: ``smae info``, ``explain``, ``view``, ``verify``, ``convert``, ``split``, ``export``."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import smae
from smae.data.clean import MODES
from smae.data.prepare import PrepareSettings
from smae_cli import choices, console

if TYPE_CHECKING:
    from smae.data.prepare.explain import Explanation
    from smae.data.store.info import StoreInfo


@click.command("info")
@choices.store()
@click.option("--classes", is_flag=True, help="List the classes instead: label, name, clips.")
@click.option("--card", is_flag=True, help="Write a dataset card in Markdown instead.")
@click.option(
    "--clip", metavar="NAME", type=choices.CLIP, help="Explain one clip instead, as smae explain STORE NAME does."
)
@click.option("--raw", type=choices.PATH, help="With --clip: the raw folder or zip, for every step.")
@console.json_option
def info_command(store: str | None, classes: bool, card: bool, clip: str | None, raw: Path | None) -> int:
    """Show what a STORE holds: counts, classes, lengths, protocols with their train and test sizes.

    \b
    Examples:
      smae info
      smae info ntu.zarr --json
      smae info ntu.zarr --classes
      smae info ntu.zarr --card > ntu.md
      smae info ntu.zarr --clip S001C002P003R002A013 --raw ntu/
    """
    if clip is not None:
        return _show_explanation(smae.explain(smae.find_store(store), clip, raw=raw))
    if raw is not None:
        raise click.UsageError("--raw goes with --clip: leave --raw out, or name a clip")
    if card:
        markdown = smae.dataset_card(store)
        console.result({"card": markdown}, lambda: console.echo(markdown))
        return 0
    if classes:
        _show_classes(store)
        return 0
    about = smae.info(store)
    console.result({**asdict(about), "path": str(about.path)}, lambda: _show_info(about))
    return 0


def _show_classes(path: str | None) -> None:
    store = smae.open_store(path)
    counted, note = smae.classes(store), smae.info(store).names_note
    rows = [(str(entry.label), entry.name, f"{entry.clips:,}") for entry in counted]

    def text() -> None:
        console.table(("label", "class", "clips"), rows)
        if note:
            console.echo(note)

    console.result({"classes": [asdict(entry) for entry in counted]}, text)


def _show_info(about: StoreInfo) -> None:
    console.show(about)
    longest_bar = max(about.lengths.counts)
    console.echo("clips by length in frames")
    for low, high, count in zip(about.lengths.edges, about.lengths.edges[1:], about.lengths.counts, strict=False):
        console.echo(f"  {low:4d} to {high:4d}  {'█' * round(40 * count / longest_bar):<40} {count:,}")


@click.command("explain")
@click.argument("path", type=choices.STORE)
@click.argument("name", required=False, type=choices.CLIP)
@click.option(
    "--raw", type=choices.PATH, help="With a store: its raw folder or zip, to explain the cleaning too and compare."
)
@click.option("--mode", type=click.Choice(MODES), help="Cleaning mode; the store's own, or reference, by default.")
@click.option("--source", type=choices.SOURCE, default=PrepareSettings.source, help="Kind of raw data.")
@click.option("--layout", type=choices.LAYOUT, help="Whose joints keypoints hold: mediapipe33, h36m17, ...")
@console.json_option
def explain_command(path: str, name: str | None, **options: Any) -> int:
    """Explain what became of one recording: bodies found, rules that removed them, frames dropped, origin.

    PATH is a raw file, a folder or zip of raw files, or a store; NAME is the recording in it.

    \b
    Examples:
      smae explain S001C002P003R002A013.skeleton
      smae explain ntu/ S001C002P003R002A013
      smae explain ntu.zarr S001C002P003R002A013 --raw ntu/

    Exit code 3 if the recording is bad, 4 if it is not what the store was made of.
    """
    return _show_explanation(smae.explain(path, name, **options))


def _show_explanation(explanation: Explanation) -> int:
    """Print the explanation of one recording and return its exit code."""
    console.result(asdict(explanation), lambda: console.echo(explanation))
    return explanation.exit_code


@click.command("verify")
@choices.store()
@console.json_option
def verify_command(store: str | None) -> int:
    """Check every byte of a STORE against its manifest, and its values; exit code 4 on any damage.

    \b
    Example:
      smae verify ntu.zarr
    """
    report = smae.verify(store)
    console.result({**asdict(report), "path": str(report.path), "ok": report.ok}, lambda: console.echo(report))
    return report.exit_code


@click.command("convert")
@choices.store()
@click.option("--layout", type=choices.LAYOUT, required=True, help="ntu25, h36m17, ..., or a .toml file.")
@click.option("--out", required=True, type=choices.PATH, help="Folder of the new store.")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@console.json_option
def convert_command(store: str | None, layout: str, out: Path, overwrite: bool) -> None:
    """Map a STORE to another joint layout, so that one encoder can read several sources.

    \b
    Examples:
      smae convert azure.zarr --layout ntu25 --out azure-ntu25.zarr
      smae convert mine.zarr --layout mine.toml --out mapped.zarr

    Joints are taken by name. Some that the store lacks follow from others, such as the neck from
    shoulders and head; the rest is marked as missing.
    """
    made = smae.convert(smae.find_store(store), layout=layout, out=out, overwrite=overwrite)
    console.result({**asdict(made), "store": str(made.store)}, lambda: console.echo(made))


GROUPS = ("subject", "camera", "setup", "replication")
_PARTS = ("train", "val", "test")


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Return the numbers of ``1,3,5-8``; ``P003`` is 3."""
    found: list[int] = []
    for word in value.split(",") if value else ():
        match = re.fullmatch(r"\s*[A-Za-z]?(\d{1,5})\s*(?:-\s*[A-Za-z]?(\d{1,5}))?\s*", word)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise click.BadParameter(f"{word!a}: expected numbers such as 1,3,5-8")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(found)


@click.command("split")
@choices.store()
@click.option("--name", default="own", help="What the split is called: smae eval --protocol NAME.")
@click.option("--by", type=click.Choice(GROUPS), help="Whole groups go to a part.")
@click.option("--test", default="", callback=_numbers, help="Groups that are tested on, for example 1,3,5-8.")
@click.option("--val", default="", callback=_numbers, help="Groups that choose among epochs (--select best_val).")
@click.option("--share", type=float, help="Share that is tested on, drawn by --seed: of each class, or of the groups.")
@click.option("--val-share", type=float, default=0.0, help="Share that chooses among epochs.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the draw.")
@click.option("--file", type=choices.PATH, help="Lists of clips by part: .toml, .json, .csv or text.")
@click.option("--overwrite", is_flag=True, help="Replace a split of this name that was made before.")
@console.json_option
def split_command(store: str | None, **options: Any) -> None:
    """Give a STORE train and test parts of your own; the rest of it stays as it is.

    \b
    Examples:
      smae split mine.zarr --by subject --test 2
      smae split mine.zarr --name views --by camera --test 3 --val 2
      smae split mine.zarr --share 0.2 --seed 1
      smae split mine.zarr --name theirs --file lists.csv

    A file has a clip and its part on each line (S001C001P001R001A001,train), or lists in TOML or
    JSON: train = ["...", ...]. Clips in no list are in no part.
    """
    made = smae.split(store, **options)
    sizes = {part: len(getattr(made, part)) for part in _PARTS}

    def text() -> None:
        console.echo(made)
        console.echo(f"next: smae pretrain --protocol {made.name}, smae eval --protocol {made.name}")

    console.result({"name": made.name, **sizes}, text)


@click.command("export")
@choices.store()
@click.option("--format", required=True, type=choices.FORMAT, help="ctrgcn, pyskl or hdf5.")
@click.option("--out", required=True, type=choices.PATH, help="The file to write.")
@click.option(
    "--protocol", type=choices.PROTOCOL, help="Split: needed for ctrgcn; the others write all that fit by default."
)
@click.option("--frames", type=click.IntRange(min=1), help="ctrgcn: pad to this length; the longest clip by default.")
@click.option(
    "--anyway", is_flag=True, help="Write even what readers of the format do not expect (exact mode, resampled clips)."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in the same format.")
@console.json_option
def export_command(store: str | None, out: Path, **options: Any) -> None:
    """Write a STORE in a format that other code reads.

    \b
    ctrgcn  .npz of x_train, y_train, x_test, y_test, as the public CTR-GCN scripts write it
    pyskl   pickle of splits and annotations, as pyskl and MMAction2 read it
    hdf5    the whole store as one file

    \b
    Examples:
      smae export ntu60.zarr --format ctrgcn --protocol xsub --out NTU60_CS.npz
      smae export ntu60.zarr --format pyskl --out ntu60.pkl
    """
    summary = smae.export(store, out, **options)
    console.result({**asdict(summary), "path": str(summary.path)}, lambda: console.echo(summary))


@click.command("view")
@choices.argument_or_option("WHERE", "--data", "where", choices.STORE)
@click.option("--clip", metavar="NAME", type=choices.CLIP, help="The clip to show; a store's first one by default.")
@click.option("--index", metavar="I", type=click.IntRange(min=0), help="The clip's number in the store, from 0.")
@click.option(
    "--out",
    type=choices.PATH,
    help="File to write: .html; .gif; .png, .svg or .pdf, a strip of frames; .rrd (Rerun). <clip>.html by default.",
)
@click.option("--raw", type=choices.PATH, help="With a store: its raw folder or zip; raw beside denoised.")
@click.option(
    "--run",
    type=choices.RUN,
    help="With a store: a run; original, masked and reconstructed. With a recording: a run whose head labels it.",
)
@click.option("--source", type=choices.SOURCE, default="ntu", help="Kind of raw data.")
@click.option("--layout", type=choices.LAYOUT, help="Whose joints keypoints hold: mediapipe33, h36m17, ...")
@console.json_option
def view_command(where: str | None, **options: Any) -> None:
    """Draw one clip as an interactive 3D page, a GIF, a strip of frames (PNG, SVG, PDF) or a Rerun recording.

    WHERE is a store (by default the one in the current folder), a raw file, or a folder or zip of
    raw files. A raw file is shown as recorded and denoised, side by side. An earlier file of the
    same format is replaced, any other is refused.

    \b
    Examples:
      smae view
      smae view ntu.zarr --clip S001C002P003R002A013 --out tearing.gif
      smae view ntu.zarr --index 7 --raw ntu/
      smae view --run runs/skeletonmae-xsub-001 --index 7
      smae view S001C002P003R002A013.skeleton --out strip.pdf

    Exit code 4 if the recording is bad.
    """
    path = smae.view(where, **options)
    console.result({"file": str(path)}, lambda: console.echo(f"file: {path.absolute()}"))

"""``smae info``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

import smae
from smae_cli import choices, console, explain

if TYPE_CHECKING:
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
def command(store: str | None, classes: bool, card: bool, clip: str | None, raw: Path | None) -> int:
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
        return explain.show(smae.explain(smae.find_store(store), clip, raw=raw))
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
    console.result({**asdict(about), "path": str(about.path)}, lambda: _text(about))
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


def _text(about: StoreInfo) -> None:
    console.show(about)
    longest_bar = max(about.lengths.counts)
    console.echo("clips by length in frames")
    for low, high, count in zip(about.lengths.edges, about.lengths.edges[1:], about.lengths.counts, strict=False):
        console.echo(f"  {low:4d} to {high:4d}  {'█' * round(40 * count / longest_bar):<40} {count:,}")

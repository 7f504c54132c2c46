"""``smae.write_recordings``: recordings in memory, cleaned as files are, to a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smae.atomic_io import check_output, locked
from smae.data.clean import Mode
from smae.data.prepare import PrepareSettings
from smae.data.raw.keypoints import Keypoints
from smae.data.store.clip_table import ClipFacts
from smae.data.store.convert import layout_map
from smae.data.store.store import Store, open_store
from smae.data.store.writer import Header, write_store
from smae.errors import DataError
from smae.skeleton import Layout, load_layout


def write_recordings(
    recordings: Sequence[Keypoints],
    out: Path | str,
    *,
    mode: Mode = PrepareSettings.mode,
    to: Layout | str | None = None,
) -> Store:
    """Clean recordings and write them as a store, which is returned.

    Args:
        recordings: of one layout, with names of their own; their labels are the classes.
        out: the folder to write, which must not exist.
        mode: cleaning mode, as of ``prepare``.
        to: map the joints to this layout, as ``convert`` does.

    Raises:
        ConfigError: ``out`` exists.
        DataError: no recording, different layouts, or a name twice.
        NoBody: a recording without a body.
        EnvironmentFault: the disk refused.
    """
    out = Path(out)
    check_output(out, kind="a store", is_kind=lambda path: False, overwrite=False)
    layouts = list(dict.fromkeys(one.layout.name for one in recordings))
    names = [one.name for one in recordings]
    if len(layouts) != 1:
        raise DataError(f"expected recordings of one layout, found {', '.join(layouts) or 'no recording'}")
    for name in names:
        if not (0 < len(name) <= 200 and name.isascii() and name.isprintable()) or names.count(name) > 1:
            raise DataError(f"the name {ascii(name)[:80]}: expected printable ASCII, each name once: name=...")
    layout = recordings[0].layout
    rates = {one.fps for one in recordings}
    origin: dict[str, object] = {"source": "keypoints", "mode": mode}
    if len(rates) == 1 and None not in rates:
        origin["fps"] = recordings[0].fps
    target = load_layout(to) if isinstance(to, str) else to or layout
    if target != layout:
        origin |= {"converted_from": layout.name, "missing": list(layout_map(layout, target).missing)}
    header = Header(
        layout=target,
        mode=mode,
        dataset="keypoints",
        classes=tuple(sorted({one.label for one in recordings})),
        origin=origin,
    )
    clips = ((ClipFacts(one.name, one.label), one.clip(target, mode=mode)) for one in recordings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f"{out.name}.lock")):
        write_store(out, header=header, clips=clips)
    return open_store(out)

"""The contracts of sources and joint layouts: a test class, and a function.

Derive from the class, write a little raw data, and run pytest.

::

    class TestMine(SourceContract):
        name = "mine"

        def write_raw(self, folder: Path) -> Path:
            ...  # write three samples or more, return what --raw would be
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np

from smae import skeleton
from smae.data.prepare.run import prepare
from smae.data.raw.recording import MAX_RANGE, MISSING, Clip, Recording
from smae.data.raw.source import SOURCES, Inventory, Sample, Source
from smae.data.store import open_store
from smae.errors import BadRecording, ConfigError, NoBody
from smae.skeleton import Layout


def read_all(source: Source, raw: Path, samples: Iterable[Sample]) -> list[bytes]:
    """Return the bytes of samples, read one after another by one reader."""
    with closing(source.reader(raw)) as reader:
        return [bytes(reader.read(sample)) for sample in samples]


class SourceContract:
    """Requirements of every source, as test methods; does not import pytest."""

    name = ""

    def write_raw(self, folder: Path) -> Path:
        """Write at least three samples of two classes below ``folder``; return the raw path."""
        raise AssertionError("derive from SourceContract and write raw data here")

    def found(self, tmp_path: Path) -> tuple[Path, Source, Inventory]:
        """Return the raw path, the source and what it finds there."""
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        raw = self.write_raw(folder)
        source = SOURCES.get(self.name)()
        return raw, source, source.discover(raw)

    def test_samples_are_sorted_named_once_and_the_same_each_time(self, tmp_path: Path) -> None:
        """The order of samples is the order of clips in the store."""
        raw, _, inventory = self.found(tmp_path)
        names = [sample.name for sample in inventory.samples]
        assert len(names) >= 3
        assert names == sorted(set(names))
        assert all(name.isascii() and name.isprintable() and name for name in names)
        assert not inventory.refused
        assert SOURCES.get(self.name)().discover(raw) == inventory

    def test_another_object_reads_what_was_found_in_any_order(self, tmp_path: Path) -> None:
        """Workers create sources of their own and never call ``discover``."""
        raw, _, inventory = self.found(tmp_path)
        source = SOURCES.get(self.name)()
        both_ways = read_all(source, raw, [*inventory.samples, *reversed(inventory.samples)])
        forwards = both_ways[: len(inventory.samples)]
        assert both_ways == forwards + forwards[::-1]
        for data in forwards:
            parsed = source.parse(data, strict=False, max_range=MAX_RANGE)
            assert (source.cleaned is None) == isinstance(parsed, Recording)

    def test_parsed_samples_have_the_layout_and_sound_values(self, tmp_path: Path) -> None:
        """Joints are float32 of the layout's number, states 0 to 3, frames in order."""
        raw, source, inventory = self.found(tmp_path)
        for data in read_all(source, raw, inventory.samples):
            one = source.parse(data, strict=False, max_range=MAX_RANGE)
            joints = one.joints if isinstance(one, Clip) else one.xyz
            assert joints.dtype == np.float32
            assert joints.shape[-2:] == (len(source.layout), 3)
            assert one.state.dtype == np.uint8
            assert one.state.shape == joints.shape[:-1]
            assert one.state.max() <= MISSING
            if isinstance(one, Recording):
                assert (np.diff(one.frame) >= 0).all()
                assert one.frame.max() < one.frames

    def test_facts_and_splits_describe_the_samples(self, tmp_path: Path) -> None:
        """Samples have facts, of at least two classes; splits give samples 1 or 2."""
        _, source, inventory = self.found(tmp_path)
        names = {sample.name for sample in inventory.samples}
        facts = [source.facts(sample.name) for sample in inventory.samples]
        assert {fact.name for fact in facts} == names
        assert len({fact.action for fact in facts}) >= 2
        assert source.dataset(facts)
        for roles in source.splits().values():
            assert set(roles) <= names
            assert set(roles.values()) <= {1, 2}

    def test_damaged_bytes_are_bad_recordings_and_nothing_else(self, tmp_path: Path) -> None:
        """A worker survives any bytes."""
        raw, source, inventory = self.found(tmp_path)
        (data,) = read_all(source, raw, inventory.samples[:1])
        damaged = [b"", b"\0" * 300, data[: len(data) // 2], data[:-1], data[: len(data) // 3] + b"\xff" * 40]
        for bad in damaged:
            try:
                source.parse(bad, strict=True, max_range=MAX_RANGE)
            except (BadRecording, NoBody):
                continue
            assert bad == data[:-1], "only a last byte may be one that says nothing"

    def test_store_does_not_depend_on_the_folder(self, tmp_path: Path) -> None:
        """Prepared from two folders, the stores have the same fingerprint and splits."""
        raw, source, inventory = self.found(tmp_path)
        elsewhere = tmp_path / "elsewhere" / "deeper" / (tmp_path / "raw").name
        shutil.copytree(tmp_path / "raw", elsewhere)
        moved = elsewhere / raw.relative_to(tmp_path / "raw")
        here = prepare(raw, tmp_path / "a.zarr", source=self.name, executor="inline", unit="m")
        there = prepare(moved, tmp_path / "b.zarr", source=self.name, executor="inline", unit="m")
        assert here.ok == len(inventory.samples)
        assert here.fingerprint == there.fingerprint
        store = open_store(here.store)
        assert store.clips.name.tolist() == [sample.name for sample in inventory.samples]
        assert set(source.splits()) <= set(store.stored_splits)
        assert store.layout == source.layout


def check_layout(layout: Layout) -> None:
    """Raise ``AssertionError`` for a layout without what masking, augmentation and streams need."""
    try:
        skeleton.check(layout)
    except ConfigError as error:
        raise AssertionError(str(error)) from None

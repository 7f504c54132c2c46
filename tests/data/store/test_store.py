from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from smae.data.raw.recording import Clip
from smae.data.store import Store, open_store
from smae.data.store.chunks import CHUNK_ROWS, SHARD_ROWS, decode
from smae.data.store.clips import ClipFacts
from smae.data.store.file_store import LocalFileStore
from smae.data.store.format import MANIFEST, encode_manifest, read_manifest, record_of
from smae.data.store.info import info
from smae.data.store.verify import verify
from smae.data.store.writer import Header, write_store
from smae.errors import DataError, UnknownNameError
from smae.skeleton import NTU25

CLIPS = 33
HEADER = Header(layout=NTU25, mode="reference", dataset="dancers", classes=("A001", "A002"), origin={"by": "a test"})


def clips() -> list[tuple[ClipFacts, Clip]]:
    """33 clips of 2 bodies x 1,000 frames and one of 1 x 1: 66,001 rows, of which 64,000 go into the first shard."""
    rng = np.random.default_rng(7)
    walk = rng.normal(0, 0.01, (1000, 25, 3)).cumsum(0).astype(np.float32)
    made = []
    for number in range(CLIPS):
        joints = np.stack([walk + number, -walk - number]).astype(np.float32)
        state = rng.integers(0, 4, joints.shape[:3]).astype(np.uint8)
        made.append((ClipFacts(f"clip{number}", f"A00{number % 2 + 1}", subject=number), Clip(joints, state)))
    one = np.ones((1, 1, 25, 3), np.float32)
    return [*made, (ClipFacts("the-last", "A002"), Clip(one, np.full((1, 1, 25), 2, np.uint8)))]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "data.zarr"
    split = np.array([1, 2] * 17, np.uint8)
    write_store(path, header=HEADER, clips=clips(), splits={"odd": split})
    return path


@pytest.fixture
def two_shards(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy.zarr"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "data.zarr"
    write_store(path, header=HEADER, clips=clips()[-4:], splits={"odd": np.array([1, 2, 1, 2], np.uint8)})
    return path


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy.zarr"))


@pytest.fixture(scope="module")
def store(written: Path) -> Store:
    return open_store(written)


def test_what_was_written_comes_back(store: Store) -> None:
    assert len(store) == CLIPS + 1
    for index, (facts, clip) in enumerate(clips()):
        assert store.index_of(facts.name) == index
        np.testing.assert_array_equal(store.clip(index), clip.joints)
        np.testing.assert_array_equal(store.clip_state(index), clip.state)
    assert store.clips.subject[:2].tolist() == [0, 1]
    assert store.clips.camera[0] == -1
    assert (store.layout, store.mode, store.dataset, store.classes) == (NTU25, "reference", "dancers", ("A001", "A002"))
    assert store.protocols() == {"odd": (17, 17)}


def test_rows_across_chunks_and_shards_equal_one_large_read(store: Store) -> None:
    everything = store.rows(0, store.row_count)
    for start, stop in [(0, 0), (5, 6), (2047, 2049), (SHARD_ROWS - 1, SHARD_ROWS + 1), (60_000, store.row_count)]:
        np.testing.assert_array_equal(store.rows(start, stop), everything[start:stop])
    with pytest.raises(IndexError, match="67538"):
        store.rows(0, store.row_count + 1)


def test_a_shard_holds_whole_clips_and_zeros_after_the_last(store: Store) -> None:
    assert store.clips.offset[31] + 2000 == 64_000
    assert store.clips.offset[32] == SHARD_ROWS
    assert store.row_count == SHARD_ROWS + 2001
    assert not store.rows(64_000, SHARD_ROWS).any()
    assert (store.rows(63_990, SHARD_ROWS + 10)[-10:] == store.clip(32)[0, :10]).all()


def test_zarr_python_reads_the_same(store: Store) -> None:
    group = zarr.open_group(store.path, mode="r")
    np.testing.assert_array_equal(group["joints"][:], store.rows(0, store.row_count))
    np.testing.assert_array_equal(group["state"][:], store.states(0, store.row_count))
    for column in ("offset", "frames", "bodies", "label", "subject", "source"):
        np.testing.assert_array_equal(group[f"clips/{column}"][:], getattr(store.clips, column))
    assert bytes(group["clips/name"][-1]) == b"the-last"


def test_equal_clips_give_equal_bytes(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "again.zarr"
    again.parent.mkdir()
    fingerprint = write_store(again, header=HEADER, clips=clips(), splits={"odd": np.array([1, 2] * 17, np.uint8)})
    assert fingerprint == open_store(written).fingerprint
    assert os.listdir(again.parent) == ["again.zarr"]


def test_a_pickled_store_opens_again_and_notices_another_one(store: Store, copy: Path) -> None:
    assert pickle.loads(pickle.dumps(store)).fingerprint == store.fingerprint
    frozen = pickle.dumps(open_store(copy))
    assert len(frozen) < 1000
    shutil.rmtree(copy)
    write_store(copy, header=HEADER, clips=clips()[:2])
    with pytest.raises(DataError, match="was replaced"):
        pickle.loads(frozen)


def test_info_counts(store: Store) -> None:
    found = info(store)
    assert (found.clips, found.rows, found.classes, found.subjects) == (34, 66_001, 2, 33)
    assert (found.frames_min, found.frames_median, found.frames_max) == (1, 1000, 1000)
    assert found.bodies == {1: 1, 2: 33}
    assert sum(found.lengths.counts) == 34
    assert found.bytes == sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())


def test_unknown_clips_and_missing_stores_are_refused_by_name(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'clip32'"):
        store.index_of("clip-32")
    with pytest.raises(DataError, match=r"found nothing.*; did you mean 'data\.zarr'\?"):
        open_store(store.path.parent / "dat.zarr")
    with pytest.raises(DataError, match="found nothing"):
        open_store(tmp_path / "none.zarr")
    with pytest.raises(DataError, match=r"found no manifest\.json"):
        open_store(tmp_path)


def test_a_sound_store_verifies(written: Path) -> None:
    report = verify(written)
    assert report.ok
    assert report.exit_code == 0
    assert report.files == len(LocalFileStore(written).sizes()) - 1


def test_every_file_with_a_flipped_bit_is_found(copy: Path) -> None:
    rng = np.random.default_rng(1)
    for name in LocalFileStore(copy).sizes():
        if name == "quarantine.jsonl":
            continue  # empty here
        path = copy / name
        sound = path.read_bytes()
        flipped = bytearray(sound)
        flipped[int(rng.integers(len(flipped)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        report = verify(copy)
        assert not report.ok, name
        assert name == MANIFEST or any(name in problem for problem in report.problems), (name, report.problems)
        path.write_bytes(sound)
    assert verify(copy).ok


def test_flipped_bits_in_shards_are_found_by_reading(copy: Path) -> None:
    rng = np.random.default_rng(2)
    path = copy / "joints/c/0/0/0"
    sound = path.read_bytes()
    for at in rng.integers(0, len(sound), 20):
        flipped = bytearray(sound)
        flipped[at] ^= 0x10
        path.write_bytes(flipped)
        with pytest.raises(DataError, match="joints/c/0/0/0"):
            open_store(copy).rows(0, 6001)


@pytest.mark.parametrize("name", ["joints/c/0/0/0", "state/c/0/0", "clips/label/c/0", "joints/zarr.json", "zarr.json"])
def test_missing_cut_and_extra_files_are_found_at_open(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).unlink()
    with pytest.raises(DataError, match=f"{name}: missing"):
        open_store(copy)
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(DataError, match=f"{name}: {len(data) - 1} bytes where the manifest says {len(data)}"):
        open_store(copy)
    (copy / name).write_bytes(data)
    (copy / (name + ".partial")).write_bytes(b"")
    with pytest.raises(DataError, match=r"\.partial: not in the manifest"):
        open_store(copy)


def test_a_shard_that_goes_missing_after_opening_is_an_error_not_zeros(two_shards: Path) -> None:
    opened = open_store(two_shards)
    (two_shards / "joints/c/1/0/0").unlink()
    with pytest.raises(DataError, match="joints/c/1/0/0"):
        opened.rows(SHARD_ROWS, SHARD_ROWS + 1)


def test_a_chunk_swapped_for_a_sound_one_of_the_same_size_is_found(tmp_path: Path) -> None:
    # Random bytes do not pack, so all their chunks are of one size; no checksum inside the shard sees the exchange.
    noise = np.random.default_rng(3).integers(0, 256, (1, 6000, 25)).astype(np.uint8)
    clip = Clip(np.zeros((1, 6000, 25, 3), np.float32), noise)
    write_store(tmp_path / "x.zarr", header=HEADER, clips=[(ClipFacts("one", "A001"), clip)])
    path = tmp_path / "x.zarr/state/c/0/0"
    shard = bytearray(path.read_bytes())
    index = np.frombuffer(bytes(shard[-516:-4]), "<u8").reshape(32, 2)
    (a, length), (b, other) = (tuple(int(value) for value in span) for span in index[:2])
    assert length == other
    shard[a : a + length], shard[b : b + length] = shard[b : b + length], shard[a : a + length]
    path.write_bytes(shard)
    with pytest.raises(DataError, match=r"state/c/0/0 chunk 0: CRC-32C"):
        open_store(tmp_path / "x.zarr").states(0, 6000)


def test_fifos_and_links_in_a_store_are_refused(copy: Path) -> None:
    path = copy / "joints/c/0/0/0"
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        open_store(copy)
    path.unlink()
    (copy.parent / "outside").write_bytes(data)
    path.symlink_to(copy.parent / "outside")
    with pytest.raises(DataError, match="not a regular file"):
        open_store(copy)


def rewrite(store: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest agree, as an attacker would."""
    (store / name).write_bytes(data)
    _, files = read_manifest(LocalFileStore(store))
    files[name] = record_of(name, data, crc32c=files[name].crc32c)
    (store / MANIFEST).write_bytes(encode_manifest(files))


def edited(store: Path, name: str, change: dict[str, Any]) -> bytes:
    content = json.loads((store / name).read_text())
    return json.dumps(content | change).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**60, 25, 3]},
        {"shape": [-1, 25, 3]},
        {"shape": "many"},
        {"data_type": "float64"},
        {"data_type": "object"},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
        {"codecs": [{"name": "pickle"}]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 25, 3]}}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**40, 25, 3]}}},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "../"}}},
        {"storage_transformers": [{"name": "run-this"}]},
        {"node_type": "group"},
    ],
)
def test_foreign_array_metadata_is_refused(copy: Path, change: dict[str, Any]) -> None:
    rewrite(copy, "joints/zarr.json", edited(copy, "joints/zarr.json", change))
    with pytest.raises(DataError, match="joints"):
        open_store(copy)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 20_000 + b"]" * 20_000, b"\xff\xfe", b'{"attributes": 3}'])
def test_broken_group_metadata_is_refused(copy: Path, data: bytes) -> None:
    rewrite(copy, "zarr.json", data)
    with pytest.raises(DataError, match=r"zarr\.json"):
        open_store(copy)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{}", b'{"version": 3, "files": {}}', b'{"version": 2, "files": {"../x": {"blake3": "a", "size": 1}}}',
     b'{"version": 2, "files": []}', b"[" * 20_000],
)  # fmt: skip
def test_broken_and_newer_manifests_are_refused(copy: Path, manifest: bytes) -> None:
    (copy / MANIFEST).write_bytes(manifest)
    with pytest.raises(DataError, match=r"manifest\.json"):
        open_store(copy)
    assert not verify(copy).ok


def test_keys_that_lead_out_of_the_store_are_refused(copy: Path) -> None:
    _, files = read_manifest(LocalFileStore(copy))
    files["../outside"] = files["zarr.json"]
    (copy / MANIFEST).write_bytes(encode_manifest(files))
    with pytest.raises(DataError, match=r"\.\./outside: missing"):
        open_store(copy)


def test_a_chunk_that_claims_another_size_is_not_unpacked() -> None:
    import google_crc32c
    from numcodecs import blosc

    packed = bytearray(blosc.compress(np.zeros(100, np.float32), b"lz4", 5, 1))
    struct.pack_into("<I", packed, 4, 2**30)
    data = bytes(packed) + google_crc32c.value(bytes(packed)).to_bytes(4, "little")
    with pytest.raises(DataError, match="holds 1073741824 bytes instead of 400"):
        decode(data, out=np.empty(100, np.float32), where="here")


def test_clips_that_disagree_with_the_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.zarr"
    write_store(path, header=HEADER, clips=clips()[:2])
    label = zarr.open_group(path, mode="r+")["clips/label"]
    label[:] = 7
    name = "clips/label/c/0"
    rewrite(path, name, (path / name).read_bytes())
    with pytest.raises(DataError, match="a label outside the classes"):
        open_store(path)
    assert "a label outside the classes" in verify(path).problems[0]


def test_numbers_that_are_not_finite_are_found_by_verify(tmp_path: Path) -> None:
    bad = clips()[0][1].joints.copy()
    bad[0, 3, 4] = np.nan
    states = np.zeros(bad.shape[:3], np.uint8)
    for mode, sound in (("reference", False), ("exact", True)):
        header = Header(layout=NTU25, mode=mode, dataset="dancers", classes=("A001",))
        write_store(tmp_path / mode, header=header, clips=[(ClipFacts("one", "A001"), Clip(bad, states))])
        assert verify(tmp_path / mode).ok is sound
    assert "clip one: row 3 holds" in verify(tmp_path / "reference").problems[0]


def test_rows_of_another_layout_and_empty_stores_are_refused(tmp_path: Path) -> None:
    kinect = Clip(np.zeros((1, 5, 20, 3), np.float32), np.zeros((1, 5, 20), np.uint8))
    with pytest.raises(DataError, match="where 25 joints of layout 'ntu25' are expected"):
        write_store(tmp_path / "a", header=HEADER, clips=[(ClipFacts("x", "A001"), kinect)])
    with pytest.raises(DataError, match="at least one clip"):
        write_store(tmp_path / "b", header=HEADER, clips=[])


def test_a_chunk_is_what_the_reader_takes_it_for() -> None:
    assert SHARD_ROWS % CHUNK_ROWS == 0


@pytest.mark.parametrize("header", [{"dataset": "a\nb"}, {"classes": ("A\x1b",)}, {"origin": {"by": "x" * 1001}}])
def test_texts_that_could_not_be_read_back_are_not_written(header: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cannot be written: expected a text of at most 1000 printable characters"):
        replace(HEADER, **header).attributes(())

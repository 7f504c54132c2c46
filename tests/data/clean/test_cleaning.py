"""Cleaning equals the reference pipeline bit for bit, and ``exact`` mode keeps time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smae.data.clean.actors import mark_noisy, motion
from smae.data.clean.cleaning import clean
from smae.data.raw.recording import MISSING, Clip, Recording
from smae.errors import BadRecording, ConfigError, DataError, NoBody
from smae.skeleton import KINECT20
from tests import corpora
from tests.oracles.exact_mode import exact
from tests.oracles.reference_pipeline import ReferenceStops, is_noisy, reference, variance


def flat(clip: Clip) -> np.ndarray:
    """[M, T, V, 3] as the reference's [T, M x V x 3]."""
    return np.ascontiguousarray(clip.joints.swapaxes(0, 1)).reshape(clip.joints.shape[1], -1)


def stand(*parts: tuple[range, float], frames: int) -> Recording:
    """Bodies as (frames seen, place on x); each is 1.6 m tall, narrow, and sways the more the farther it is out."""
    rng = np.random.default_rng(0)
    one = np.linspace([0, 0, 2], [0.3, 1.6, 2.2], 25, dtype=np.float32)
    rows = []
    for name, (seen, x) in enumerate(parts):
        xyz = one + np.float32([x, 0, 0]) + rng.normal(0, 0.01 * abs(x), (len(seen), 1, 3))
        rows.append((np.array(seen), 100 + name, xyz))
    return corpora.assemble(frames, rows)


# reference mode


@pytest.mark.parametrize("seed", range(4))
def test_reference_equals_the_oracle_bit_for_bit(seed: int) -> None:
    floats = 0
    for kind, recording in corpora.recordings(seed, 5 * len(corpora.KINDS)):
        want = reference(recording.frame, recording.body, recording.xyz)
        got = flat(clean(recording))
        assert got.shape == want.shape, kind
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32)), kind
        floats += got.size
    assert floats > 300_000


@pytest.mark.slow
def test_reference_equals_the_oracle_on_thousands() -> None:
    for kind, recording in corpora.recordings(99, 240 * len(corpora.KINDS)):
        try:
            want = reference(recording.frame, recording.body, recording.xyz)
        except ReferenceStops:
            with pytest.raises(NoBody):
                clean(recording)
            continue
        assert flat(clean(recording)).tobytes() == want.tobytes(), kind


def test_corpora_reach_every_rule() -> None:
    seen: set[str] = set()
    bodies: set[int] = set()
    for _, recording in corpora.recordings(5, 10 * len(corpora.KINDS)):
        clip = clean(recording)
        seen |= set(clip.notes)
        bodies.add(len(clip.joints))
    assert bodies == {1, 2}
    assert seen >= {
        "empty-frames", "removed-short", "removed-spread", "kept-despite-length", "merged-bodies", "dropped-bodies",
        "moved-bodies", "dropped-frames", "empty-actor",
    }  # fmt: skip


def test_kernels_round_as_numpy_does() -> None:
    rng = np.random.default_rng(3)
    for number in range(200):
        xyz = corpora.person(rng, int(rng.integers(1, 90)), ("tall", "mixed", "wide")[number % 3])
        assert np.float32(motion(xyz)).tobytes() == variance(list(xyz)).tobytes()
        noisy = np.empty(len(xyz), np.bool_)
        assert mark_noisy(xyz, noisy) == noisy.sum()
        assert noisy.tolist() == [is_noisy(row) for row in xyz]


def test_width_is_compared_in_float64() -> None:
    # 0.8 as float32 is a little more than 0.8: a float32 product would call this row good.
    xyz = np.zeros((1, 25, 3), np.float32)
    xyz[0, 1] = [0.8, 1.0, 0.0]
    assert mark_noisy(xyz, np.empty(1, np.bool_)) == 1


def test_one_body_keeps_its_zero_rows_and_loses_empty_frames() -> None:
    recording = stand((range(2, 20), 1.0), frames=25)
    recording.xyz[3] = 0
    clip = clean(recording)
    assert clip.joints.shape == (1, 18, 25, 3)
    assert clip.notes == {"empty-frames": 7}
    origin = recording.xyz[0, 1]
    np.testing.assert_array_equal(clip.joints[0, 3], np.tile(-origin, (25, 1)))
    np.testing.assert_array_equal(clip.joints[0, 0, 1], [0, 0, 0])
    np.testing.assert_array_equal(clip.state[0], recording.state)


def test_returning_body_is_packed_with_its_states() -> None:
    seen = [*range(10), *range(20, 30)]
    recording = stand((range(30), 1.0), (seen, 0.5), frames=30)
    clip = clean(recording)
    assert clip.joints.shape == (2, 30, 25, 3)
    assert clip.notes == {"moved-bodies": 1}
    theirs = recording.body == 101
    np.testing.assert_array_equal(clip.state[1, :20], recording.state[theirs])
    assert (clip.state[1, 20:] == MISSING).all()
    assert (clip.joints[1, 20:] == 0).all()
    assert (clip.state[1, :20] != MISSING).all()


def test_third_body_at_the_same_time_is_dropped() -> None:
    clip = clean(stand((range(30), 0.2), (range(30), 2.0), (range(30), 1.0), frames=30))
    assert clip.joints.shape[0] == 2
    assert clip.notes == {"dropped-bodies": 1}
    # Largest motion first: the body at x = 2 leads, the one at x = 1 follows about a metre to its side.
    assert clip.joints[1, :, 0, 0].mean() == pytest.approx(-1.0, abs=0.05)


def test_merging_all_bodies_leaves_a_second_actor_of_zeros() -> None:
    recording = stand((range(15), 1.0), (range(15, 30), 1.0), frames=30)
    clip = clean(recording)
    assert clip.joints.shape[0] == 2
    assert clip.notes == {"merged-bodies": 1, "empty-actor": 1}
    assert (clip.joints[1] == 0).all()
    assert (clip.state[1] == MISSING).all()
    assert clean(recording, mode="exact").joints.shape[0] == 1


def test_two_short_bodies_keep_the_one_that_moves_most() -> None:
    clip = clean(stand((range(4), 0.1), (range(3, 9), 3.0), frames=9))
    assert clip.joints.shape == (1, 6, 25, 3)
    assert clip.notes == {"kept-despite-length": 1, "removed-short": 1, "dropped-frames": 3}


# missing joints


def test_missing_joints_are_held_in_reference_mode_only() -> None:
    recording = stand((range(20), 1.0), (range(20), 2.0), frames=20)
    whole = clean(recording)
    xyz = recording.xyz.copy()
    mine = np.flatnonzero(recording.body == 101)
    xyz[mine[0], 7] = np.nan
    xyz[mine[5:7], 8, 0] = np.nan
    broken = replace(recording, xyz=xyz)
    clip = clean(broken)
    assert clip.notes == {"held-joints": 3}
    np.testing.assert_array_equal(clip.joints[0, 0, 7], whole.joints[0, 1, 7])
    np.testing.assert_array_equal(clip.joints[0, 5:7, 8], whole.joints[0, [4, 4], 8])
    assert (clip.state[0, [0, 5, 6], [7, 8, 8]] == 0).all()
    exact = clean(broken, mode="exact")
    assert exact.notes == {"held-joints": 3}
    assert np.argwhere(np.isnan(exact.joints[..., 1])).tolist() == [[0, 0, 7], [0, 5, 8], [0, 6, 8]]
    assert np.array_equal(np.isnan(exact.joints).any(axis=3), exact.state == MISSING)
    assert np.isnan(recording.xyz).sum() == 0


def test_joint_never_seen_stands_at_the_centre_joint() -> None:
    recording = stand((range(14), 1.0), frames=14)
    recording.xyz[:, 22] = np.nan
    clip = clean(recording)
    np.testing.assert_array_equal(clip.joints[0, :, 22], clip.joints[0, :, 1])
    recording.xyz[:, 1] = np.nan
    clip = clean(recording)
    np.testing.assert_array_equal(clip.joints[0, :, 22], clip.joints[0, :, 0])
    assert clean(recording, mode="exact").joints[0, 0, 0].tolist() == [0, 0, 0]


# exact mode


def test_exact_mode_keeps_time() -> None:
    seen = [*range(5, 15), *range(20, 30)]
    recording = stand((range(3, 33), 1.0), (seen, 0.5), frames=40)
    clip = clean(recording, mode="exact")
    assert clip.joints.shape == (2, 30, 25, 3)
    assert clip.notes == {"empty-frames": 10}
    there = ~np.isnan(clip.joints[1]).any(axis=(1, 2))
    assert (np.flatnonzero(there) + 3).tolist() == seen
    assert ((clip.state[1] == MISSING).all(axis=1) == ~there).all()
    theirs = recording.xyz[recording.body == 101] - recording.xyz[0, 1]
    np.testing.assert_array_equal(clip.joints[1, there], theirs)


def test_exact_mode_keeps_empty_frames_and_marks_zero_rows() -> None:
    recording = stand(([2, 3, 4, 8, 9], 1.0), frames=12)
    recording.xyz[[0, 2]] = 0
    clip = clean(recording, mode="exact")
    assert clip.joints.shape == (1, 7, 25, 3)
    assert np.isnan(clip.joints[0, :, 0, 0]).tolist() == [False, True, True, True, True, False, False]
    assert clip.notes == {"empty-frames": 7, "dropped-frames": 1}
    np.testing.assert_array_equal(clip.joints[0, 0, 1], [0, 0, 0])


def check_exact(seed: int, count: int) -> int:
    """Hold exact mode against its oracle, bit for bit, NaN at the same places; return how many floats were compared."""
    floats = 0
    for kind, recording in corpora.recordings(seed, count):
        want = exact(recording.frame, recording.body, recording.xyz)
        if want is None:
            with pytest.raises(NoBody):
                clean(recording, mode="exact")
            continue
        clip = clean(recording, mode="exact")
        assert clip.joints.shape == want[0].shape, kind
        there = ~np.isnan(want[0])
        assert np.array_equal(~np.isnan(clip.joints), there), kind
        assert clip.joints[there].tobytes() == want[0][there].tobytes(), kind
        assert np.array_equal(clip.state == MISSING, ~there.any(axis=3)), kind
        floats += clip.joints.size
    return floats


@pytest.mark.parametrize("seed", range(2))
def test_exact_mode_equals_its_oracle_bit_for_bit(seed: int) -> None:
    assert check_exact(seed, 5 * len(corpora.KINDS)) > 300_000


@pytest.mark.slow
def test_exact_mode_equals_its_oracle_on_thousands() -> None:
    assert check_exact(98, 240 * len(corpora.KINDS)) > 20_000_000


def test_exact_mode_on_hard_recordings() -> None:
    for kind, recording in corpora.recordings(7, 10 * len(corpora.KINDS)):
        clip = clean(recording, mode="exact")
        bodies, frames = clip.state.shape[:2]
        assert bodies in (1, 2), kind
        assert frames <= recording.frames, kind
        assert np.array_equal(np.isnan(clip.joints).any(axis=3), clip.state == MISSING), kind
        present = (clip.state != MISSING).any(axis=2)
        assert present.any(axis=1).all(), kind
        assert present[:, [0, -1]].any(axis=0).all(), kind


def test_modes_agree_where_nothing_is_wrong() -> None:
    recording = stand((range(30), 1.0), (range(30), 2.0), frames=30)
    np.testing.assert_array_equal(clean(recording).joints, clean(recording, mode="exact").joints)


# errors and story


@pytest.mark.parametrize("mode", ["reference", "exact"])
def test_recordings_without_bodies(mode: str) -> None:
    zeros = stand((range(20), 1.0), (range(20), 2.0), frames=20)
    zeros.xyz[:] = 0
    with pytest.raises(NoBody, match="zero"):
        clean(zeros, mode=mode)
    unseen = stand((range(20), 1.0), frames=20)
    unseen.xyz[:] = np.nan
    with pytest.raises(NoBody, match="zero"):
        clean(unseen, mode=mode)
    empty = Recording(5, zeros.frame[:0], zeros.body[:0], zeros.xyz[:0], zeros.state[:0])
    with pytest.raises(NoBody, match="none in 5"):
        clean(empty, mode=mode)


def test_wrong_arguments_say_what_was_expected() -> None:
    recording = stand((range(20), 1.0), frames=20)
    with pytest.raises(DataError, match="expected the 20 joints of layout 'kinect20', found 25"):
        clean(recording, layout=KINECT20)
    with pytest.raises(ConfigError, match="expected one of reference, exact"):
        clean(recording, mode="fast")
    twice = replace(recording, frame=recording.frame // 2)
    with pytest.raises(BadRecording, match="found body 100 twice"):
        clean(twice)


def test_twenty_joints() -> None:
    recording = stand((range(20), 1.0), (range(20), 2.0), frames=20)
    fewer = replace(recording, xyz=recording.xyz[:, :20].copy(), state=recording.state[:, :20].copy())
    want = reference(fewer.frame, fewer.body, fewer.xyz)
    np.testing.assert_array_equal(flat(clean(fewer, layout=KINECT20)), want)


def test_input_is_left_as_it_was() -> None:
    for kind, recording in corpora.recordings(8, 2 * len(corpora.KINDS)):
        before = recording.xyz.tobytes() + recording.state.tobytes()
        for mode in ("reference", "exact"):
            clip = clean(recording, mode=mode)
            clip.joints[:] = 5
            clip.state[:] = 1
        assert recording.xyz.tobytes() + recording.state.tobytes() == before, kind


def test_the_story_has_a_line_for_each_body() -> None:
    recording = stand((range(30), 2.0), (range(30), 1.0), (range(8), 1.0), (range(12, 28), 0.5), frames=33)
    story = clean(recording, story=True).story
    assert story[0] == "33 frames, 3 of them without anybody; bodies: 4"
    assert story[1].startswith("body 100: frames 1 to 30, 30 rows, motion ")
    assert story[1].endswith("; actor 1")
    assert story[2].endswith("; actor 2")
    assert story[3].endswith("; removed: too short, a person has more than 11 rows")
    assert "left out" in story[4]
    assert story[-2].startswith("origin: spine mid of actor 1")
    assert story[-1] == "clip: bodies 2, frames 30, joints 25"
    assert clean(recording).story == ()

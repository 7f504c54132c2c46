"""Motion capture: forward kinematics by hand, joints by name, files that are none."""

from __future__ import annotations

import numpy as np
import pytest

import smae
from smae.data.raw.mocap import MocapSource, plain_name
from smae.data.raw.mocap_files import amc_positions, bvh_positions, parse_amc, parse_asf, parse_bvh, rotation
from smae.errors import BadRecording, ConfigError
from smae.skeleton import H36M17, NTU25
from smae.testing.sources import SourceContract

ARM = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Upper
  {
    OFFSET 0 1 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT Lower
    {
      OFFSET 0 2 0
      CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
      End Site
      {
        OFFSET 1 0 0
      }
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
0 0 0  0 0 0   0 0 0   0 2 0  0 0 0
1 2 3  90 0 0  0 90 0  0 3 0  0 0 90
"""
ASF = """# a comment
:version 1.10
:name test
:units
  mass 1.0
  length 0.5
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
     id 1
     name upper
     direction 0 1 0
     length 2
     axis 0 0 90 XYZ
     dof rx ry rz
     limits (-180 180)
            (-90 90)
            (-10 10)
  end
  begin
     id 2
     name lower
     direction 1 0 0
     length 1
     axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root upper
    upper lower
  end
"""
AMC = """#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 0 0 0 0 0 0
upper 0 0 0
2
root 1 0 0 0 0 90
upper 90 0 0
"""


def person(frames: int = 12, *, seed: int = 0, scale: float = 100.0) -> str:
    """Return a BVH of a standing person of Mixamo's names, whose joints sway."""
    tree = {
        "Hips": ("", (0, 0.9, 0)), "Spine": ("Hips", (0, 0.1, 0)), "Spine1": ("Spine", (0, 0.2, 0)),
        "Neck": ("Spine1", (0, 0.2, 0)), "Head": ("Neck", (0, 0.1, 0)),
    }  # fmt: skip
    for side, x in (("Left", 1), ("Right", -1)):
        tree |= {
            f"{side}Shoulder": ("Spine1", (0.05 * x, 0.18, 0)), f"{side}Arm": (f"{side}Shoulder", (0.13 * x, 0, 0)),
            f"{side}ForeArm": (f"{side}Arm", (0.28 * x, 0, 0)), f"{side}Hand": (f"{side}ForeArm", (0.25 * x, 0, 0)),
            f"{side}UpLeg": ("Hips", (0.1 * x, 0, 0)), f"{side}Leg": (f"{side}UpLeg", (0, -0.42, 0)),
            f"{side}Foot": (f"{side}Leg", (0, -0.42, 0)), f"{side}ToeBase": (f"{side}Foot", (0, -0.05, 0.12)),
        }  # fmt: skip

    def write(name: str, *, word: str) -> str:
        x, y, z = (scale * value for value in tree[name][1])
        position = "6 Xposition Yposition Zposition" if word == "ROOT" else "3"
        below = "".join(write(child, word="JOINT") for child, (parent, _) in tree.items() if parent == name)
        if not below:
            below = f"End Site {{ OFFSET 0 {0.2 * scale} 0 }}\n"
        channels = f"CHANNELS {position} Zrotation Xrotation Yrotation"
        return f"{word} mixamorig:{name}\n{{\nOFFSET {x} {y} {z}\n{channels}\n{below}}}\n"

    rng = np.random.default_rng(seed)
    angles = rng.normal(0, 5, (frames, 3 * len(tree)))
    lines = [" ".join(f"{value:.4f}" for value in (0, 0.9 * scale, 0, *row)) for row in angles]
    head = f"HIERARCHY\n{write('Hips', word='ROOT')}MOTION\nFrames: {frames}\nFrame Time: 0.033333\n"
    return head + "\n".join(lines) + "\n"


def test_turns_are_right_handed():
    quarter = np.array([90.0])
    np.testing.assert_allclose(rotation("x", quarter)[0] @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation("y", quarter)[0] @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation("z", quarter)[0] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_a_bvh_arm_is_where_it_is_by_hand():
    bones, motion = parse_bvh(ARM)
    assert [(bone.name, bone.parent) for bone in bones] == [("Hips", -1), ("Upper", 0), ("Lower", 1), ("Lower end", 2)]
    placed = bvh_positions(bones, motion)
    np.testing.assert_allclose(placed[0], [[0, 0, 0], [0, 1, 0], [0, 3, 0], [1, 3, 0]], atol=1e-12)
    # Hips: a quarter about z takes y to -x. Upper: about its own x takes y to z. Lower is 3 from it by
    # its position channels, and its own y takes x to -z, which upper takes to y, and hips to -x.
    np.testing.assert_allclose(placed[1], [[1, 2, 3], [0, 2, 3], [0, 2, 6], [-1, 2, 6]], atol=1e-12)


def test_an_acclaim_arm_is_where_it_is_by_hand():
    bones, degrees = parse_asf(ASF)
    scale = 0.0254 / 0.5
    motion, frames = parse_amc(AMC, bones, scale=scale, degrees=degrees)
    placed = amc_positions(bones, motion, frames) / scale
    np.testing.assert_allclose(placed[0], [[0, 0, 0], [0, 2, 0], [1, 2, 0]], atol=1e-9)
    # Upper's own x is the world's y, along which it lies; lower turns about y, from x to -z. The
    # root's quarter about z then takes y to -x.
    np.testing.assert_allclose(placed[1], [[1, 0, 0], [-1, 0, 0], [-1, 0, -1]], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("mixamorig:LeftUpLeg", ("left", "upleg")),
        ("UpperArm_R", ("right", "upperarm")),
        ("Bip01 L Thigh", ("left", "thigh")),
        ("lThigh", ("left", "thigh")),
        ("RightToeBase", ("right", "toebase")),
        ("joint_Root", ("", "root")),
        ("LowerBack", ("", "lowerback")),
        ("Spine1", ("", "spine1")),
    ],
)
def test_sides_and_prefixes_are_read_off_names(name, plain):
    assert plain_name(name) == plain


def test_a_person_has_ntus_joints_those_between_others_and_gaps():
    recording = MocapSource().parse(person(scale=1.0).encode(), strict=False, max_range=20)
    at = {joint: recording.xyz[:, number] for number, joint in enumerate(NTU25.joints)}
    assert recording.xyz.shape == (12, 25, 3)
    np.testing.assert_allclose(at["spine base"], np.tile([0, 0.9, 0], (12, 1)), atol=1e-5)
    thigh = np.linalg.norm(at["left knee"] - at["left hip"], axis=1)
    np.testing.assert_allclose(thigh, 0.42, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(at["right wrist"] - at["right elbow"], axis=1), 0.25, atol=1e-5)
    np.testing.assert_allclose(at["neck"], (2 * at["spine shoulder"] + at["head"]) / 3, atol=1e-5)
    lacking = {joint for joint, xyz in at.items() if np.isnan(xyz).all()}
    assert lacking == {f"{side} {joint}" for side in ("left", "right") for joint in ("hand", "hand tip", "thumb")}
    assert not np.isnan(recording.xyz[:, NTU25.joints.index("left foot")]).any()


class TestMocap(SourceContract):
    name = "mocap"

    def write_raw(self, folder):
        for number, action in enumerate(("sit", "walk", "walk")):
            (folder / action).mkdir(exist_ok=True)
            (folder / action / f"take{number}.bvh").write_text(person(seed=number, scale=1.0))
        return folder


def test_a_set_in_centimetres_is_asked_about_and_prepared(tmp_path):
    for number, action in enumerate(("sit", "walk")):
        (tmp_path / "raw" / action).mkdir(parents=True)
        (tmp_path / "raw" / action / f"take{number}.bvh").write_text(person(seed=number))
    options = {"source": "mocap", "executor": "inline"}
    with pytest.raises(ConfigError, match="say the unit"):
        smae.prepare(tmp_path / "raw", tmp_path / "x.zarr", **options)
    made = smae.open_store(smae.prepare(tmp_path / "raw", tmp_path / "x.zarr", unit="cm", **options).store)
    assert made.layout == NTU25
    assert made.classes == ("sit", "walk")
    assert np.isfinite(made.clip(0)).all()
    h36m = smae.prepare(tmp_path / "raw", tmp_path / "y.zarr", unit="cm", layout="h36m17", **options)
    assert smae.open_store(h36m.store).layout == H36M17


def test_an_amc_is_read_with_its_asf_and_refused_without(tmp_path):
    (tmp_path / "01_02.amc").write_text(AMC)
    source = MocapSource()
    (sample,) = source.discover(tmp_path).samples
    with pytest.raises(BadRecording, match=r"expected one \.asf of its skeleton beside it, found none"):
        source.reader(tmp_path).read(sample)
    (tmp_path / "01.asf").write_text(ASF)
    (tmp_path / "02.asf").write_text(ASF)
    data = source.reader(tmp_path).read(sample)
    with pytest.raises(BadRecording, match="no left shoulder"):
        source.parse(data, strict=False, max_range=20)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "H", "expected HIERARCHY"),
        ("Frames: 2", "Frames: 3", "30 numbers where 3 frames of 15"),
        ("Zrotation", "Wrotation", "expected Xposition, Zrotation"),
        ("OFFSET 0 1 0", "OFFSET 0 nan 0", "expected a number, found 'nan'"),
        ("1 2 3 ", "1 2 x ", "expected a number, found 'x'"),
        ("\n}\nMOTION", "\nMOTION", "cut off"),
        ("\n}\nMOTION", "\n}\nROOT B\n{\n}\nMOTION", "a second root"),
        ("CHANNELS 6 X", "CHANNEL 6 X", "unexpected 'CHANNEL'"),
    ],
)
def test_a_bvh_that_is_none_is_refused(old, new, message):
    with pytest.raises(BadRecording, match=message):
        parse_bvh(ARM.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("axis 0 0 90 XYZ", "axis 0 0 90 XXZ", "expected three angles"),
        ("direction 0 1 0", "direction 0 1", "expected name, direction"),
        ("root upper", "root lower", "does not hold"),
        ("dof rx ry rz", "dof rx ry l", "degrees of freedom beside"),
        ("length 2", "length two", "expected a number"),
    ],
)
def test_an_asf_that_is_none_is_refused(old, new, message):
    with pytest.raises(BadRecording, match=message):
        parse_asf(ASF.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("upper 90 0 0", "upper 90 0", "not of this .asf"),
        ("upper 90 0 0", "", "not in all of them"),
        ("upper 90", "elbow 90", "'elbow' with 3 numbers"),
    ],
)
def test_an_amc_that_is_none_is_refused(old, new, message):
    bones, degrees = parse_asf(ASF)
    with pytest.raises(BadRecording, match=message):
        parse_amc(AMC.replace(old, new, 1), bones, scale=1.0, degrees=degrees)


def test_motion_capture_in_the_fifteen_joints_that_all_have(tmp_path):
    (tmp_path / "take.bvh").write_text(person(scale=1.0))
    made = smae.prepare(
        tmp_path / "take.bvh", tmp_path / "x.zarr", source="mocap", executor="inline", layout="common15"
    )
    store = smae.open_store(made.store)
    assert store.layout.name == "common15"
    assert (store.clip_state(0) == 2).all()

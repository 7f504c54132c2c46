"""Motion capture as a source: ``.bvh`` and ``.amc`` files, in the joints of a layout.

Joints are found by the names of Mixamo, 3ds Max, MotionBuilder, Bandai-Namco's and CMU's sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smae.data.raw import mocap_files
from smae.data.raw.file_reader import FileReader
from smae.data.raw.keypoints import facts_by_folder, find_by_suffix
from smae.data.raw.mocap_files import Floats
from smae.data.raw.recording import MAX_BYTES, TRACKED, Recording
from smae.data.raw.source import BaseSource, Inventory, Refused, Sample
from smae.data.store.convert import layout_map
from smae.errors import BadRecording
from smae.skeleton import Layout

_HEAD = b"ASF %d\n"

# Names of BVH joints, lower case, letters and digits only; a joint is where its bone begins.
_CENTRAL = {
    "spine base": ("hips", "hip", "pelvis"),
    "spine mid": ("spine1", "chest", "spine", "abdomen", "torso"),
    "spine shoulder": ("neck", "spine3"),
    "neck": ("neck1",),
    "head": ("head",),
}
_SIDED = {
    "shoulder": ("arm", "uparm", "upperarm", "shldr", "shoulder", "humerus"),
    "elbow": ("forearm", "lowerarm", "lowarm", "elbow", "radius"),
    "wrist": ("hand", "wrist"),
    "hand": ("fingerbase", "handmiddle1", "middle1"),
    "thumb": ("thumb", "handthumb1", "thumb1"),
    "hip": ("upleg", "upperleg", "thigh", "hip", "hipjoint", "femur"),
    "knee": ("leg", "lowerleg", "lowleg", "knee", "shin", "calf", "tibia"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toes", "toe", "ball"),
}
# CMU's bones by the joint at their end.
_BONES = {
    "spine base": ("root",),
    "spine mid": ("upperback",),
    "spine shoulder": ("thorax",),
    "neck": ("lowerneck",),
    "head": ("head",),
}
_SIDED_BONES = {
    "shoulder": ("clavicle",),
    "elbow": ("humerus",),
    "wrist": ("radius",),
    "hand": ("hand",),
    "hand tip": ("fingers",),
    "thumb": ("thumb",),
    "hip": ("hipjoint",),
    "knee": ("femur",),
    "ankle": ("tibia",),
    "foot": ("foot",),
}
_NEEDED = [f"{side} {joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "hip", "knee")]


def plain_name(name: str) -> tuple[str, str]:
    """Return side (``left``, ``right``, none) and rest of a joint's name, without prefixes."""
    name = re.sub(r"^(?:.*:|bip\d+[ _]|joint_|mixamorig\d*_)", "", name, flags=re.IGNORECASE)
    side = ""
    # From the clearest form to the least: "lThigh" has a side, "lowerBack" and "Root" have none.
    for form in (
        r"(?i:(?P<side>left|right))[ _.-]?(?P<rest>.+)",
        r"(?P<rest>.+?)[ _.-](?i:(?P<side>left|right|l|r))",
        r"(?i:(?P<side>[lr]))[ _.-](?P<rest>.+)",
        r"(?P<side>[lrLR])(?P<rest>[A-Z].+)",
    ):
        if match := re.fullmatch(form, name):
            side, name = {"l": "left", "r": "right"}[match["side"][0].lower()], match["rest"]
            break
    return side, re.sub("[^a-z0-9]", "", name.lower())


def _named(names: Sequence[str], *, bones: bool) -> Iterator[tuple[str, int]]:
    """Yield NTU's names of joints, each with the number of the joint or bone that it is."""
    plain: dict[tuple[str, str], int] = {}
    for number, name in enumerate(names):
        side, rest = plain_name(name)
        if bones and not side and name[:1] in "lr" and name not in ("root", "lowerback", "lowerneck"):
            side, rest = {"l": "left", "r": "right"}[name[0]], name[1:]
        # Of two joints that read alike, the first is the nearer to the root.
        plain.setdefault((side, rest), number)
    central, sided = (_BONES, _SIDED_BONES) if bones else (_CENTRAL, _SIDED)
    for side in ("", "left", "right"):
        for joint, known in (sided if side else central).items():
            found = [plain[side, rest] for rest in known if (side, rest) in plain]
            if found:
                yield f"{side} {joint}".lstrip(), found[0]


def to_layout(names: Sequence[str], positions: Floats, layout: Layout, *, bones: bool) -> NDArray[np.float32]:
    """Return positions [T, V, 3] in a layout: by name, by the rules of ``convert``, else NaN."""
    found = dict(_named(names, bones=bones))
    lacking = [joint for joint in _NEEDED if joint not in found]
    if lacking:
        listed = ascii(", ".join(names))[1:200]
        raise BadRecording("joints", f"no {', '.join(lacking)} by the names of its joints: {listed}")
    own = positions[:, list(found.values())]
    if not bones and "head" in found and f"{names[found['head']]} end" in names:
        # The joint is at the skull's base; NTU's is in the middle of the head.
        top = positions[:, names.index(f"{names[found['head']]} end")]
        own[:, list(found).index("head")] = (own[:, list(found).index("head")] + top) / 2
    mapping = layout_map(Layout("mocap", tuple(found), (), (), {}, 0), layout)
    out: NDArray[np.float32] = np.einsum("wv,tvc->twc", mapping.weights, own).astype(np.float32)
    out[:, ~mapping.weights.any(axis=1)] = np.nan
    return out


class MocapSource(BaseSource):
    """A ``.bvh`` or ``.amc`` file a recording, in NTU's joints or those of ``--layout``.

    An ``.amc`` goes with the ``.asf`` of its name, of the beginning of its name (``01.asf`` for
    ``01_02.amc``), or the only one in its folder. The class is the folder's name, or NTU's.
    """

    takes_layout = True
    dataset_name = "mocap"

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        self.layout = self.given_layout or self.layout
        found = find_by_suffix(raw, (".bvh", ".amc"), strict_names=strict_names)
        samples, refused = list[Sample](), list(found.refused)
        for sample in found.samples:
            if sample.packed is not None and not sample.member.endswith(".bvh"):
                refused.append(
                    Refused(sample.where, "packed", "an .amc in a zip: unpack it beside its .asf", sample.size)
                )
                continue
            facts = facts_by_folder(sample, raw)
            self._facts[facts.name] = facts
            samples.append(replace(sample, name=facts.name))
        return replace(found, samples=tuple(sorted(samples)), refused=tuple(refused))

    def reader(self, raw: Path) -> MocapReader:
        return MocapReader(raw)

    def parse(self, data: bytes, *, strict: bool, max_range: float) -> Recording:
        """Parse a ``.bvh``, or an ``.asf`` and ``.amc`` as the reader packs them."""
        layout = self.given_layout or self.layout
        text = bytes(data).decode("latin-1").replace("\r", "\n")
        if text.startswith("ASF "):
            size, _, rest = text.partition("\n")
            cut = int(mocap_files.number_of(size[4:]))
            bones, degrees = mocap_files.parse_asf(rest[:cut])
            length = next(iter(re.findall(r"^\s*length\s+(\S+)", rest[:cut], re.MULTILINE)), "1")
            scale = mocap_files.INCH / mocap_files.number_of(length)
            motion, frames = mocap_files.parse_amc(rest[cut:], bones, scale=scale, degrees=degrees)
            positions = mocap_files.amc_positions(bones, motion, frames)
        else:
            bones, numbers = mocap_files.parse_bvh(text.lstrip("\xef\xbb\xbf"))
            positions = mocap_files.bvh_positions(bones, numbers)
        largest = float(np.abs(positions).max())
        if not largest <= max_range:
            raise BadRecording("range", f"{largest:g} from the origin; at most {max_range:g} are accepted: see --unit")
        xyz = to_layout([bone.name for bone in bones], positions, layout, bones=text.startswith("ASF "))
        frames = len(xyz)
        return Recording(
            frames=frames,
            frame=np.arange(frames, dtype=np.int32),
            body=np.zeros(frames, np.uint64),
            xyz=xyz,
            state=np.full(xyz.shape[:2], TRACKED, np.uint8),
        )


class MocapReader(FileReader):
    """Reads files; an ``.amc`` behind its ``.asf``, whose length comes first."""

    def read(self, sample: Sample) -> bytes | memoryview:
        data = super().read(sample)
        if sample.packed is not None or not sample.path.lower().endswith(".amc"):
            return data
        path = self.folder / sample.path
        known = sorted(path.parent.glob("*.asf"))
        fitting = [asf for asf in known if path.stem == asf.stem or path.stem.startswith(f"{asf.stem}_")] or known
        if len(fitting) != 1 or not fitting[0].is_file() or fitting[0].stat().st_size > MAX_BYTES:
            listed = ", ".join(asf.name for asf in known[:5]) or "none"
            raise BadRecording("asf", f"expected one .asf of its skeleton beside it, found {listed}")
        skeleton = fitting[0].read_bytes().replace(b"\r", b"\n")
        return _HEAD % len(skeleton) + skeleton + bytes(data)

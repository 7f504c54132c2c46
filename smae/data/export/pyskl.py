"""The pickle that pyskl and MMAction2 read: splits by name, and an annotation with a half-precision array a clip.

Plain types and NumPy arrays only. Unlike in the files those projects distribute, the joints of a store are centred;
both projects centre on loading, so training sees the same values up to half precision.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from smae import interrupts, progress
from smae.data.export.base import Request, class_numbers, clips_in_order
from smae.data.store.store import Store
from smae.errors import ConfigError

PICKLE_PROTOCOL = 4
_BLOCK = 512
_RECONSTRUCT = np.empty(0).__reduce__()[0]


def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write ``{"split": {name: [frame_dir]}, "annotations": [{frame_dir, label, total_frames, keypoint}]}``.

    ``keypoint`` is float16 [M, T, V, 3], metres; NaN of exact mode becomes 0. Splits are called ``xsub_train`` and
    ``xsub_val``, as in those projects; with ``protocol``, only that one is written, else all that fit. The whole
    content is in memory: 2 GB for NTU-120.

    Raises:
        ConfigError: ``frames`` is given, and this format does not pad.
        UnknownNameError: no such protocol for this store.
    """
    if request.frames is not None:
        raise ConfigError("--frames pads clips, and this format does not pad: leave it out")
    names = [str(name) for name in store.clips.name]
    split: dict[str, list[str]] = {}
    protocols = sorted(store.protocols()) if request.protocol is None else [request.protocol]
    for protocol in protocols:
        found = store.split(protocol)
        short = found.name.removeprefix(f"{store.dataset}-")
        split[f"{short}_train"] = [names[index] for index in found.train]
        split[f"{short}_val"] = [names[index] for index in found.test]
    labels = class_numbers(store)[store.clips.label].tolist()
    annotations = []
    with progress.task("export", total=len(store), unit="clips") as task:
        for part, clips in clips_in_order(store, np.arange(len(store)), block=_BLOCK):
            interrupts.check()
            annotations += [
                _annotation(names[index], labels[index], clip) for index, clip in zip(part, clips, strict=True)
            ]
            task.update(len(annotations))
    with open(path, "wb") as file:
        _Pickler(file).dump({"split": split, "annotations": annotations})
    contents = {f"split {name}": f"{len(members)} clips" for name, members in split.items()}
    notes = ("joints as the store holds them, rounded to float16",)
    return contents | {"annotations": f"{len(annotations)} clips"}, notes


def _annotation(name: str, label: int, clip: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    return {"frame_dir": name, "label": label, "total_frames": clip.shape[1], "keypoint": clip.astype(np.float16)}


_Pure: Any = vars(pickle)["_Pickler"]
"""The standard library's pickler in Python, whose names of functions can be overridden."""


class _Pickler(_Pure):  # type: ignore[misc]
    """Names NumPy's array constructor as NumPy 1 did: all versions read that, and those projects use old ones."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, protocol=PICKLE_PROTOCOL)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is _RECONSTRUCT and id(obj) not in self.memo:
            self.save("numpy.core.multiarray")
            self.save("_reconstruct")
            self.write(pickle.STACK_GLOBAL)
            self.memoize(obj)
        else:
            super().save_global(obj, name)

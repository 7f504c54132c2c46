"""The pickle that pyskl and MMAction2 read: splits by name, and an annotation with a half-precision array a clip.

Plain types and NumPy arrays only. Unlike the files those projects hand out, the joints of a store that was cleaned
here are centred; both projects centre on loading, so training sees the same up to half precision.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from smae.data.export.base import Request, class_numbers, clips_in_order
from smae.data.store.store import Store
from smae.errors import ConfigError

PICKLE_PROTOCOL = 4
_BLOCK = 512
_RECONSTRUCT = np.empty(0).__reduce__()[0]


def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write ``{"split": {name: [frame_dir]}, "annotations": [{frame_dir, label, total_frames, keypoint}]}``.

    ``keypoint`` is float16 [M, T, V, 3], metres; NaN of exact mode becomes 0. Splits are called ``xsub_train`` and
    ``xsub_val``, as those projects call them; with ``protocol``, only that one is written, else all that fit. The whole
    content stands in memory: 2 GB for NTU-120.

    Raises:
        ConfigError: ``frames``, since this form does not pad.
        UnknownNameError: no such protocol for this store.
    """
    if request.frames is not None:
        raise ConfigError("--frames pads clips, and this form does not pad: leave it out")
    names = [str(name) for name in store.clips.name]
    split: dict[str, list[str]] = {}
    for protocol in [request.protocol] if request.protocol is not None else sorted(store.protocols()):
        found = store.split(protocol)
        short = found.name.removeprefix(f"{store.dataset}-")
        split[f"{short}_train"] = [names[place] for place in found.train]
        split[f"{short}_val"] = [names[place] for place in found.test]
    labels = class_numbers(store)[store.clips.label].tolist()
    annotations = []
    for places, clips in clips_in_order(store, np.arange(len(store)), block=_BLOCK):
        annotations += [
            _annotation(names[place], labels[place], clip) for place, clip in zip(places, clips, strict=True)
        ]
        request.progress(len(annotations), len(store))
    with open(path, "wb") as file:
        _Pickler(file).dump({"split": split, "annotations": annotations})
    contents = {f"split {name}": f"{len(members)} clips" for name, members in split.items()}
    notes = ("joints as the store holds them, rounded to float16",)
    return contents | {"annotations": f"{len(annotations)} clips"}, notes


def _annotation(name: str, label: int, clip: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    return {"frame_dir": name, "label": label, "total_frames": clip.shape[1], "keypoint": clip.astype(np.float16)}


_Pure: Any = vars(pickle)["_Pickler"]
"""The standard library's pickler in Python, which can be told how to name things; its types are not published."""


class _Pickler(_Pure):  # type: ignore[misc]
    """Names NumPy's array maker as NumPy 1 did: every version reads that, and those projects run on old ones."""

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

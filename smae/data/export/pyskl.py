"""The pickle of pyskl and MMAction2: splits by name, and a half-precision array for each clip.

Plain types and NumPy arrays only. Unlike in the files of those projects, the joints of a store that
smae cleaned are centred; both projects centre on loading, so training sees the same up to half precision.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from smae import progress
from smae.data.export import Request, class_numbers, read_clips, signature
from smae.data.store import Store
from smae.errors import ConfigError

PICKLE_PROTOCOL = 4
_BLOCK = 512
_RECONSTRUCT = np.empty(0).__reduce__()[0]


@signature(".pkl", ".pickle", magic=bytes([0x80, PICKLE_PROTOCOL]))
def write(store: Store, path: Path, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write ``{"split": {name: [frame_dir]}, "annotations": [{frame_dir, label, total_frames, keypoint}]}``.

    ``keypoint`` is float16 [M, T, V, 3], metres; NaN of exact mode becomes 0. Splits are
    ``xsub_train`` and ``xsub_val``, as in those projects; with ``protocol``, only that one is
    written. The whole content is in memory: 2 GB for NTU-120.

    Raises:
        ConfigError: ``frames``, since this format does not pad.
        UnknownNameError: no such protocol for this store.
    """
    if request.frames is not None:
        raise ConfigError("--frames pads clips, and this format does not pad: leave it out")
    names = store.clips.name.tolist()
    split: dict[str, list[str]] = {}
    for protocol in [request.protocol] if request.protocol is not None else sorted(store.protocols()):
        halves = store.split(protocol)
        short = halves.name.removeprefix(f"{store.dataset}-")
        split[f"{short}_train"] = [names[index] for index in halves.train]
        # Those projects call the part that results are reported on val, where there is no other.
        tested = "test" if len(halves.val) else "val"
        split[f"{short}_{tested}"] = [names[index] for index in halves.test]
        if len(halves.val):
            split[f"{short}_val"] = [names[index] for index in halves.val]
    labels = class_numbers(store)[store.clips.label].tolist()
    annotations = []
    with progress.task("export", total=len(store), unit="clips") as task:
        for indices, clips in read_clips(store, np.arange(len(store)), block=_BLOCK):
            for index, clip in zip(indices, clips, strict=True):
                annotations.append(
                    {
                        "frame_dir": names[index],
                        "label": labels[index],
                        "total_frames": clip.shape[1],
                        "keypoint": clip.astype(np.float16),
                    }
                )
            task.update(len(annotations))
    with open(path, "wb") as file:
        _Pickler(file).dump({"split": split, "annotations": annotations})
    contents = {f"split {name}": f"{len(members)} clips" for name, members in split.items()}
    notes = ("joints of the store, rounded to float16",)
    return contents | {"annotations": f"{len(annotations)} clips"}, notes


_PurePickler: Any = vars(pickle)["_Pickler"]
"""The standard library's pickler in Python, whose ``save_global`` can be overridden."""


class _Pickler(_PurePickler):  # type: ignore[misc]
    """Names NumPy's array constructor as NumPy 1 did, which every version reads."""

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

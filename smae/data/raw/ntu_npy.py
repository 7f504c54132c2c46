"""NTU RGB+D as the authors' ``txt2npy.py`` converts it: ``S001C001P001R001A001.skeleton.npy``.

Each file holds a pickled dictionary with an array of each body, ``skel_body0`` float [T, 25, 3], zeros in
frames where it is not there; bodies are numbered by their order in each frame, and the sensor's ids and
tracking states are lost. So a store of these files is not that of the ``.skeleton`` files.
"""

from __future__ import annotations

import numpy as np

from smae.data.raw.ntu import NPY_SUFFIX, NtuSource
from smae.data.raw.plain_pickle import as_array, load_plain_npy
from smae.data.raw.recording import Recording
from smae.data.raw.single_body import bodies_recording
from smae.errors import BadRecording, DataError

_MAX_BODIES = 16


class NtuNpySource(NtuSource):
    """The converted files in folders and zips; pickles are read without executing anything."""

    suffix = NPY_SUFFIX

    def parse(self, data: bytes | memoryview, *, strict: bool, max_range: float) -> Recording:
        try:
            content = load_plain_npy(bytes(data))
        except DataError as error:
            raise BadRecording("npy", str(error)) from error
        bodies = []
        if isinstance(content, dict):
            bodies = [as_array(content.get(f"skel_body{number}")) for number in range(_MAX_BODIES)]
        bodies = [body for body in bodies if body is not None]
        wrong = [body for body in bodies if not isinstance(body, np.ndarray) or body.dtype.kind != "f"]
        if not bodies or wrong or len({body.shape for body in bodies}) > 1:
            raise BadRecording("npy", "expected the dictionary of txt2npy.py, with skel_body0 of floats [T, 25, 3]")
        if bodies[0].ndim != 3:
            raise BadRecording("joint-count", f"expected [T, 25, 3], found {list(bodies[0].shape)}")
        xyz = np.stack(bodies, axis=1).astype(np.float64)
        return bodies_recording(xyz, layout=self.layout, strict=strict, max_range=max_range)

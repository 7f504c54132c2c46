"""MediaPipe's pose in each frame of a video, as JSON lines: a program of its own.

It runs in an environment that holds MediaPipe and not smae, whose needs contradict each other; so
it imports nothing of smae. ``smae.data.raw.video`` starts it and reads its lines:

    {"mediapipe": "0.10.14", "frames": 72, "fps": 28.05}      first; frames is what the file claims
    {"seconds": 0.0357, "joints": [[x, y, z, visibility], ...]}  each frame; null without a person
    {"end": 72}                                                last; frames that were read

Joints are MediaPipe's 33 world landmarks: metres from the centre of the hips, x to the picture's
right, y down, z away from the camera.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any


def run(video: str, out: IO[str]) -> int:
    """Write the lines of a video; without one (``""``), the first line alone."""
    import cv2
    import mediapipe

    about: dict[str, Any] = {"mediapipe": mediapipe.__version__}
    if not video:
        print(json.dumps(about), file=out, flush=True)
        return 0
    capture = cv2.VideoCapture(video)
    if not capture.isOpened():
        print("not a video that OpenCV can read", file=sys.stderr)
        return 2
    about["frames"] = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    about["fps"] = float(capture.get(cv2.CAP_PROP_FPS))
    print(json.dumps(about), file=out, flush=True)
    count = 0
    # Complexity 1 is the model that the wheel brings; the others would be downloaded.
    with mediapipe.solutions.pose.Pose(model_complexity=1) as pose:
        while True:
            good, picture = capture.read()
            if not good:
                break
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            found = pose.process(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).pose_world_landmarks
            joints = None
            if found is not None:
                joints = [[one.x, one.y, one.z, one.visibility] for one in found.landmark]
            print(json.dumps({"seconds": seconds, "joints": joints}), file=out, flush=True)
            count += 1
    print(json.dumps({"end": count}), file=out, flush=True)
    return 0


if __name__ == "__main__":
    # Libraries write on standard output too: the lines get a copy of it, the libraries the other.
    lines = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    sys.exit(run(sys.argv[1] if len(sys.argv) > 1 else "", lines))

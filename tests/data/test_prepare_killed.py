from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smae.data.preparing import plan
from smae.data.preparing.prepare import prepare
from tests.data.raw_folder import files, write_folder

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("killed") / "raw", files(60))


def trial(what: str, raw: Path, folder: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.data.killing", what, str(raw), str(folder), str(count), "7"]
    run = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


@pytest.mark.parametrize("trials", [3, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_random_moments_and_resumed_the_store_is_the_same(raw: Path, tmp_path: Path, trials: int) -> None:
    answer = trial("kill", raw, tmp_path, trials)
    assert set(answer["each"]) == {answer["whole"]}
    assert len(answer["each"]) == trials
    assert answer["killed"] >= 1, "two kills a trial; some come when the work is already done"
    assert answer["left"] == []


@pytest.mark.parametrize("races", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_of_several_writers_one_wins_and_the_others_say_locked(raw: Path, tmp_path: Path, races: int) -> None:
    answer = trial("race", raw, tmp_path, races)
    assert len(answer["codes"]) == races
    for codes in answer["codes"]:
        assert codes.count(0) == 1
        # A loser that comes after the winner has finished finds its store: exit code 2.
        assert set(codes) <= {0, 6, 2}
    assert answer["left"] == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_stops_workers_and_leaves_work_that_resumes(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from smae.data.preparing import plan\n"
        "from smae.data.preparing.prepare import prepare\n"
        "from smae.errors import SmaeError\n"
        "def tell(progress):\n"
        "    print(progress.done, flush=True)\n"
        "if __name__ == '__main__':\n"
        # A test run in the background of a shell hands down a SIGINT that is ignored.
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    plan.TASK_SAMPLES = 3\n"
        "    try:\n"
        "        prepare(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, frames=1500, resume=True, progress=tell)\n"
        "    except SmaeError as error:\n"
        "        sys.exit(error.exit_code)\n"
    )
    out = tmp_path / "out.zarr"
    command = [sys.executable, "-c", script, str(raw), str(out)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    began = time.monotonic()
    with process.stdout:
        process.wait(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - began < 5
    assert os.listdir(tmp_path) == ["out.zarr.wip"]
    monkeypatch.setattr(plan, "TASK_SAMPLES", 3)
    assert prepare(raw, out, frames=1500, resume=True, executor="inline").ok == 60
    assert os.listdir(tmp_path) == ["out.zarr"]

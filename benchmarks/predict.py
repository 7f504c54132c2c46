"""Answers for a recording that grows, and clips a second, on one core: `python -m benchmarks.predict`."""

from __future__ import annotations

import logging
import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import torch

from benchmarks import devices
from benchmarks.harness import Case, Figure, Report, machine, measure, present
from benchmarks.naive import predict as naive
from smae.data.raw.recording import RATE, Clip
from smae.data.synthetic.synth import synthesise
from smae.eval.export import HeadConfig, LoadedEncoder, PreparationConfig, read_weights, write_weights
from smae.eval.follow import Follower
from smae.eval.predict import probabilities
from smae.eval.probes.linear import LinearClassifier
from smae.eval.raw_clips import Windows, read_recordings
from smae.models.encoders import encoders
from smae.skeleton import NTU25
from smae.train.config import resolve

FOLLOWED, NAIVE, ENCODED = "smae predict --follow", "the whole file again for each answer", "clips, 64 at a time"
WINDOW = 80
"""Frames in a window: NTU RGB+D's median clip is about as long."""
CLASSES = 60
BATCH = 64


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        work: folder to write to.
        recipe: whose encoder classifies; its weights are random, which takes as long.
        seconds: length of the recording.
    """

    work: Path
    recipe: str
    seconds: int

    @cached_property
    def model(self) -> LoadedEncoder:
        """A classifier."""
        config = resolve(self.recipe)
        torch.manual_seed(0)
        build = encoders.get(config.encoder.name)
        encoder = build(config.encoder, frames=config.augment.frames, layout=NTU25)
        classes = tuple(f"A{number:03}" for number in range(1, CLASSES + 1))
        folder = write_weights(
            self.work / "head",
            LinearClassifier(encoder, classes=CLASSES).eval(),
            encoder=config.encoder.model_dump(),
            augment=config.augment,
            layout=NTU25,
            head=HeadConfig(kind="linear", classes=classes),
            prepared=PreparationConfig(clip_frames=(WINDOW, WINDOW)),
            origin={},
        )
        return read_weights(folder)

    @cached_property
    def states(self) -> list[bytes]:
        """The file at each answer: a window of frames, then a second more each time."""
        synthesise(self.work / "raw", actions=1, subjects=1, cameras=1, replications=1, hard=False)
        first = next((self.work / "raw").rglob("*.skeleton")).read_bytes()
        # One person: a frame is 28 lines.
        lines = re.split(rb"(?<=\n)", first)[1:]
        frames = [b"".join(lines[at : at + 28]) for at in range(0, len(lines) - 27, 28)]
        assert all(frame.startswith(b"1") for frame in frames), "one person"
        stops = range(WINDOW, self.seconds * RATE + 1, RATE)
        return [b"0\r\n" + b"".join(frames[number % len(frames)] for number in range(stop)) for stop in stops]

    @cached_property
    def files(self) -> list[Path]:
        """The same with the frame count that a reader of whole files expects."""
        found = []
        for number, text in enumerate(self.states):
            found.append(self.work / f"S001C001P001R001A{number + 1:03}.skeleton")
            found[-1].write_bytes(b"%d\r\n" % (text.count(b"\n") // 28) + text.partition(b"\n")[2])
        return found

    def followed(self) -> list[float]:
        """Return the probability of each answer of a file that is followed."""
        path = self.work / "live.skeleton"
        path.unlink(missing_ok=True)
        follower, found, before = Follower(path, self.model, device="cpu"), list[float](), 0
        for text in self.states:
            with path.open("ab") as file:
                file.write(text[before:])
            before = len(text)
            found += [one.probability for one in follower.update() or []]
        return found

    def again(self) -> list[float]:
        """Return the probability of each answer where the whole file is read and encoded for each."""
        windows, cpu = Windows(WINDOW, WINDOW, RATE), torch.device("cpu")
        return [float(naive.answer(path, self.model, windows, device=cpu).max()) for path in self.files]

    @cached_property
    def clips(self) -> list[Clip]:
        """As many clips as are encoded together."""
        read = read_recordings(self.files[:1], prepared=self.model.config.prepared, layout=NTU25)
        return read.clips * BATCH

    def cases(self) -> list[Case]:
        """Return everything that is timed."""
        count, size = len(self.states), len(self.states[-1])
        expected = self.again()
        assert torch.allclose(torch.tensor(self.followed()), torch.tensor(expected), atol=1e-5), "the same answers"
        encode = self.clips
        return [
            Case(FOLLOWED, self.followed, count, size),
            Case(NAIVE, self.again, count, sum(map(len, self.states))),
            Case(ENCODED, lambda: probabilities(encode, self.model, torch.device("cpu")), BATCH, 0),
        ]


def run(bench: Bench, *, rounds: int) -> Report:
    """Measure everything and return the report."""
    head = machine("torch", "numpy", "numba") | devices.describe(torch.device("cpu"))
    rows = measure(bench.cases(), rounds=rounds)
    by = {row.name: row for row in rows}
    followed, again, encoded = by[FOLLOWED], by[NAIVE], by[ENCODED]
    figures = (
        Figure("processor time of an answer, followed", 1000 * followed.cpu / followed.items, "ms"),
        Figure("processor time of an answer, the whole file again", 1000 * again.cpu / again.items, "ms"),
        Figure("the whole file again / followed (processor time)", again.cpu / followed.cpu),
        Figure("clips encoded in a second of one core, 64 at a time", encoded.items / encoded.cpu, "clips"),
    )
    about = (
        f"a recording of {bench.seconds} s, one person; windows of {WINDOW} frames, an answer each second: "
        f"{len(bench.states)} answers; the encoder of recipe {bench.recipe}, {CLASSES} classes",
        "an answer: the new frames read, parsed, cleaned, cropped, resized and classified; both give the same classes",
        "not in it: the time until the file is looked at again, 50 ms at most",
        f"{rounds} rounds, interleaved; medians; one thread, so that processor time is what an idle core would take",
    )
    return Report("predict", "answers", head, about, rows, figures)


@click.command(help=__doc__)
@click.option("--recipe", default="cpu", show_default=True, help="Recipe whose encoder classifies.")
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(min=3), help="Length of the recording.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, interleaved.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/predict.md.")
def main(recipe: str, seconds: int, rounds: int, as_json: bool, write: bool) -> None:
    torch.set_num_threads(1)
    logging.getLogger("smae").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="smae-predict-") as work:
        present(run(Bench(Path(work), recipe, seconds), rounds=rounds), as_json=as_json, write=write)


if __name__ == "__main__":
    main()

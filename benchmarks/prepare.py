"""`smae prepare` against the naive scripts and against what the machine can do: `python -m benchmarks.prepare`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from blake3 import blake3

from benchmarks import corpus as corpora
from benchmarks.corpus import Corpus
from benchmarks.harness import Case, Figure, Report, Row, machine, measure, present
from benchmarks.naive import prepare as naive
from benchmarks.processes import peak_of, run_whole

Prepare = Callable[[Path, Path, int], object]

TWO, ONE, ZIP = "smae prepare, 2 workers", "smae prepare, 1 worker", "smae prepare, 2 workers, zip"
NAIVE, READ, LINES = "naive, three steps", "read", "read, count newlines"
FEW_TWO, FEW_ONE = "the same on few files", "the same, 1 worker, on few files"
PARSE, CLEAN, HASH = "parse", "parse, clean", "BLAKE3"
_COMMAND = "from smae_cli.main import main; main()"
_FIRST = """
import json, sys, time
import smae
from smae import progress
moments = []
class Moments:
    def begin(self, task): pass
    def update(self, task): moments.append((time.monotonic(), task.done))
    def end(self, task): pass
with progress.reporting(Moments()):
    smae.prepare(sys.argv[1], sys.argv[2], workers=2)
print(json.dumps(moments[0]))
"""


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        corpus: the raw files.
        few: the first of them, to show what does not grow with their number.
        archive: the same as a zip.
        work: folder for stores.
        sample: files for the naive scripts.
        held: files for the parts that are timed on bytes in memory.
        prepare: (raw, store, workers) -> done.
    """

    corpus: Corpus
    few: Corpus
    archive: Path
    work: Path
    sample: int
    held: int
    prepare: Prepare

    @property
    def store(self) -> Path:
        """Where stores are written, one after the other."""
        return self.work / "prepare.zarr"

    def cases(self) -> list[Case]:
        """Return everything that is timed."""
        files, whole = self.corpus.files, (len(self.corpus.files), self.corpus.bytes)
        few = (len(self.few.files), self.few.bytes)
        step = max(1, len(files) // self.sample)
        some, held = files[::step][: self.sample], [path.read_bytes() for path in files[: self.held]]
        part = (len(held), sum(map(len, held)))
        return [
            *(
                Case(name, partial(self.prepare, raw, self.store, workers), *size, setup=self.clear)
                for name, raw, size, workers in (
                    (TWO, self.corpus.folder, whole, 2), (ONE, self.corpus.folder, whole, 1),
                    (ZIP, self.archive, whole, 2), (FEW_TWO, self.few.folder, few, 2),
                    (FEW_ONE, self.few.folder, few, 1),
                )
            ),
            Case(NAIVE, partial(naive.prepare, some, self.work / "naive.npz"), len(some), _size(some)),
            Case(READ, partial(_read, files), *whole),
            Case(LINES, partial(_count_lines, files), *whole),
            # Loading the kernels is not parsing: one file is done before the clock starts.
            Case(PARSE, partial(_parse, held), *part, setup=partial(_parse, held[:1])),
            Case(CLEAN, partial(_clean, held), *part, setup=partial(_clean, held[:1])),
            Case(HASH, partial(_hash, held), *part),
        ]  # fmt: skip

    def clear(self) -> None:
        """Remove the store of the run before."""
        for path in (self.store, self.store.with_name(self.store.name + ".wip")):
            shutil.rmtree(path, ignore_errors=True)


def marginal(many: Row, few: Row) -> tuple[float, float]:
    """Return bytes a second of wall time and of processor time by which many files take longer than few.

    What a command takes to start and to finish, however many files there are, is in both, and so in neither rate.
    """
    more = many.bytes - few.bytes
    return more / max(many.seconds - few.seconds, 1e-9), more / max(many.cpu - few.cpu, 1e-9)


def ratios(rows: Sequence[Row]) -> list[Figure]:
    """Return the ratios of one run's rows."""
    by = {row.name: row for row in rows}
    two, two_cpu = marginal(by[TWO], by[FEW_TWO])
    one, one_cpu = marginal(by[ONE], by[FEW_ONE])
    start_up = by[FEW_TWO].seconds - by[FEW_TWO].bytes / two
    return [
        Figure("2 workers / naive, end to end", two / by[NAIVE].byte_rate, goal=80, stretch=120),
        Figure("the same with two cores to itself, at best (CPU time)", 2 * two_cpu / by[NAIVE].cpu_byte_rate),
        Figure("the same, start-up counted", by[TWO].byte_rate / by[NAIVE].byte_rate),
        # By processor time: the main process and the workers share cores, and so may other people's work.
        Figure("per core: 2 workers / read and count newlines (CPU time)", two_cpu / by[LINES].cpu_byte_rate, "%",
               goal=0.25, stretch=0.40),
        Figure("per core: 1 worker / read and count newlines (CPU time)", one_cpu / by[LINES].cpu_byte_rate, "%"),
        Figure("start-up", start_up, "s", goal=3, at_most=True),
        Figure("zip / folder, 2 workers", by[ZIP].byte_rate / by[TWO].byte_rate, "%", goal=0.5),
        Figure("2 workers / 1 worker", two / one),
        Figure("1 worker / naive", one / by[NAIVE].byte_rate),
        Figure("2 workers / read", two / by[READ].byte_rate, "%"),
        Figure("parse / naive", by[PARSE].byte_rate / by[NAIVE].byte_rate),
        Figure("parse / read and count newlines", by[PARSE].byte_rate / by[LINES].byte_rate, "%"),
    ]  # fmt: skip


def sizes(bench: Bench) -> list[Figure]:
    """Return what is measured once: the store's size with each codec, peak memory, the time to the first files."""
    bench.clear()
    bench.prepare(bench.corpus.folder, bench.store, 2)
    stored = _stored(bench.store)
    bench.clear()
    subprocess.run(
        [*_command(bench.corpus.folder, bench.store, 2), "--codec", "int16"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    small = _stored(bench.store)
    bench.clear()
    peak = peak_of(_command(bench.corpus.folder, bench.store, 2))
    bench.clear()
    began = time.monotonic()
    output = subprocess.run(
        [sys.executable, "-c", _FIRST, str(bench.corpus.folder), str(bench.store)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    moment, done = json.loads(output)
    bench.clear()
    return [
        Figure("store / raw text", stored / bench.corpus.bytes, "%", goal=1 / 6, at_most=True),
        Figure("store / raw text, --codec int16", small / bench.corpus.bytes, "%", goal=0.1, at_most=True),
        Figure(f"peak memory, {peak.processes} processes together (PSS)", peak.together / 2**20, "MiB", 1024,
               at_most=True),
        Figure("peak memory, largest process (RSS)", peak.largest / 2**20, "MiB"),
        Figure(f"from start to the first {done} files done", moment - began, "s"),
    ]  # fmt: skip


def run(bench: Bench, *, rounds: int, once: bool = True) -> Report:
    """Measure everything and return the report; without ``once``, leave out what needs processes of its own."""
    head = machine("numpy", "numba", "zarr", "numcodecs")
    rows = measure(bench.cases(), rounds=rounds)
    about = (
        f"corpus: {bench.corpus}; naive on every {max(1, len(bench.corpus.files) // bench.sample)}th file; parse, "
        "clean and BLAKE3 on bytes in memory",
        f"{rounds} rounds, interleaved; medians; page cache warm; `smae prepare` is the whole command, start to exit",
        f"rates of prepare in the ratios: the same command on {len(bench.few.files):,} files taken away, so that "
        "start-up does not count",
    )
    figures = [*ratios(rows), *(sizes(bench) if once else [])]
    return Report("prepare", "files", head, about, rows, tuple(figures))


def by_command(raw: Path, out: Path, workers: int) -> None:
    """Run `smae prepare` as people do: a process of its own."""
    run_whole(_command(raw, out, workers))


def _command(raw: Path, out: Path, workers: int) -> list[str]:
    arguments = ["prepare", "--raw", str(raw), "--out", str(out), "--workers", str(workers), "--json"]
    return [sys.executable, "-c", _COMMAND, *arguments]


def _stored(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def _size(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _read_one(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.read(handle, os.fstat(handle).st_size)
    finally:
        os.close(handle)


def _read(files: Sequence[Path]) -> int:
    return sum(len(_read_one(path)) for path in files)


def _count_lines(files: Sequence[Path]) -> int:
    return sum(_read_one(path).count(b"\n") for path in files)


def _parse(held: Sequence[bytes]) -> None:
    from smae.data.raw.fast_parser import read_skeleton

    for data in held:
        read_skeleton(data)


def _clean(held: Sequence[bytes]) -> None:
    from smae.data.clean.cleaning import clean
    from smae.data.raw.fast_parser import read_skeleton
    from smae.errors import NoBody

    for data in held:
        try:
            clean(read_skeleton(data))
        except NoBody:
            continue


def _hash(held: Sequence[bytes]) -> None:
    for data in held:
        blake3(data).digest()


@click.command(help=__doc__)
@click.option("--files", default=20_000, show_default=True, help="Recordings in the corpus.")
@click.option("--few", default=2_000, show_default=True, help="Recordings in the small corpus.")
@click.option("--sample", default=200, show_default=True, help="Recordings for the naive scripts.")
@click.option("--held", default=1_000, show_default=True, help="Recordings for the parts timed in memory.")
@click.option("--rounds", default=3, show_default=True, help="Rounds, interleaved.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=corpora.WORK,
    show_default=True,
    help="Folder for corpora and stores.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--write", is_flag=True, help="Write benchmarks/results/prepare.md.")
def main(files: int, few: int, sample: int, held: int, rounds: int, work: Path, as_json: bool, write: bool) -> None:
    corpus, small = corpora.build(files, work=work), corpora.build(min(few, max(1, files // 2)), work=work)
    bench = Bench(corpus, small, corpora.zipped(corpus), work, sample, held, by_command)
    present(run(bench, rounds=rounds), as_json=as_json, write=write)


if __name__ == "__main__":
    main()

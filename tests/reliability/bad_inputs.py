"""Hands every bad input to the `smae` command; ``python -m tests.reliability.bad_inputs`` lists what each printed.

The numbers are the rows of the table of bad `.skeleton` files; the rest is the command line of `prepare`.
"""

from __future__ import annotations

import builtins
import io
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bad_files import BAD, GOOD, GOOD_ENOUGH
from tests.bad_files import field as edited_field
from tests.data.raw_folder import files, skeleton, write_folder, write_zip
from tests.reliability.forked_cli import Ended, answer, in_programs, smae, warm_up
from tests.reliability.stores import in_memory
from tests.skeletons import walk, write_skeleton

NAME = "S001C003P020R002A002.skeleton"
"""The bad file; beside it lie three good ones."""
QUARANTINED = 3
PROGRAM = "tests.reliability.bad_inputs"


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        code: the exit code that it must have.
        says: patterns that the output must match, all of them.
        make: writes into the folder ``raw``, which holds three good recordings; beside it, ``out.zarr`` will appear.
        arguments: further ones of `prepare`; ``{place}`` is the folder that ``raw`` lies in.
        before: runs of `prepare` that must have been made earlier, by their arguments.
        between: done after those.
        first: done in the process of the command before it.
        good: whether the three good recordings are there.
        leaves: what may lie beside ``raw`` afterwards.
        same: whether the store must hold the very rows that the clean text of the recording gives.
    """

    code: int
    says: Sequence[str] = ()
    make: Callable[[Path], object] = lambda raw: None
    arguments: Sequence[str] = ()
    before: Sequence[Sequence[str]] = ()
    between: Callable[[Path], object] = lambda raw: None
    first: Callable[[Path], Callable[[], object]] | None = None
    good: bool = True
    leaves: Sequence[str] = field(default=("out.zarr",))
    same: bool = False


def write(data: bytes, name: str = NAME) -> Callable[[Path], object]:
    return lambda raw: write_folder(raw, {name: data})


def _bad(name: str) -> Case:
    text, code, line, column = BAD[name]
    place = f":{line}:{'[0-9]+' if column == -1 else column}" if line else ""
    return Case(QUARANTINED, (rf"^  {NAME}{place}: {code}: .{{10}}",), write(text))


def _good(name: str) -> Case:
    text, notes = GOOD_ENOUGH[name]
    row = name.split()[0]
    said = [rf"noted .*{note} 1" for note in notes]
    if row in ("15", "41"):
        return Case(0, (r"excluded no-body 1", r"ok .* 3$"), write(text))
    clean = row in ("5", "35", "36")
    return Case(0, (r"ok .* 1$" if clean else r"ok .* 4$", *said), write(text), good=not clean, same=clean)


def at_opening(act: Callable[[Path], object], *, always: bool = False) -> Callable[[Path], Callable[[], object]]:
    """Return what makes ``act`` happen to the bad file just before it is opened, the first time or always."""

    def install(raw: Path) -> Callable[[], object]:
        opened: list[object] = []

        def watched(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *rest: Any, **named: Any) -> Any:
                if (always or not opened) and not isinstance(path, int) and os.fsdecode(path).endswith(NAME):
                    opened.append(path)
                    act(raw / NAME)
                return real(path, *rest, **named)

            return call

        def first() -> None:
            os.open = watched(os.open)
            builtins.open = io.open = watched(io.open)  # type: ignore[assignment]

        return first

    return install


def refused(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def zipped(change: Callable[[bytes], bytes] = lambda data: data, name: str = NAME) -> Callable[[Path], object]:
    """Write a zip of one member, its bytes changed afterwards."""

    def make(raw: Path) -> None:
        path = write_zip(raw / "a.zip", {name: skeleton(8, seed=5)})
        path.write_bytes(change(path.read_bytes()))

    return make


def encrypted(data: bytes) -> bytes:
    """Set the flag of encryption in both headers of a zip's only member."""
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(mark) + at
        data = data[:place] + bytes([data[place] | 1]) + data[place + 1 :]
    return data


def damaged(data: bytes) -> bytes:
    return data[:300] + bytes([data[300] ^ 0xFF]) + data[301:]


def packed_tight(raw: Path) -> None:
    with zipfile.ZipFile(raw / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAME, b"0" * 5_000_000)


def looping(raw: Path) -> None:
    (raw / NAME).symlink_to(raw / NAME)


def escaping(raw: Path) -> None:
    (raw.parent / "elsewhere").write_bytes(skeleton())
    (raw / NAME).symlink_to("../elsewhere")


def empty_frames() -> bytes:
    """Return 6 frames, the third and fourth without a body."""
    frames = walk(6)
    frames[2:4] = [], []
    return write_skeleton(frames)


_NTU = dict.fromkeys(files(3))
_FIRST = next(iter(_NTU))

SKELETONS: dict[str, Case] = {
    # The spellings of row 30 differ only in the column that is named: two of five are enough here.
    **{name: _bad(name) for name in BAD if not re.fullmatch(r"30 .*, column [123]", name)},
    **{name: _good(name) for name in GOOD_ENOUGH},
    "16 empty frames keep their numbers": Case(
        0, (r"ok 6 frames, 6 body-frames 1$",), write(empty_frames()), ["--mode", "exact"], good=False
    ),
    "27 NaN, strict": Case(
        4, (rf"{NAME}:61:[0-9]+: non-finite: ",), write(edited_field(0, 1, "nan")), ["--strict"],
        leaves=("out.zarr.wip",),
    ),
    "29 decimal comma, hint": Case(QUARANTINED, ("locale",), write(edited_field(0, 0, "0,5"))),
    "31 5000 m, allowed": Case(0, (r"ok .* 4$",), write(edited_field(0, 2, "5000")), ["--max-range", "6000"]),
    "36 LF": Case(0, (r"ok .* 1$",), write(GOOD.replace(b"\r\n", b"\n")), good=False, same=True),
    "36 CR": Case(0, (r"ok .* 1$",), write(GOOD.replace(b"\r\n", b"\r")), good=False, same=True),
    "36 tabs": Case(0, (r"ok .* 1$",), write(GOOD.replace(b" ", b"\t")), good=False, same=True),
    "39 a line of 50 MB": Case(QUARANTINED, (rf"{NAME}:2:1: line-length: ",), write(b"1\n" + b"1 " * 25_000_000)),
    "43 a name of another form": Case(0, (r"ignored .* 1$", r"ok .* 3$"), write(skeleton(), "dance.skeleton")),
    "43 a name of another form, strict": Case(
        QUARANTINED, (r"dance\.skeleton: name: ",), write(skeleton(), "dance.skeleton"), ["--strict-names"]
    ),
    "44 twice, the same bytes": Case(
        0, (r"noted duplicate 1", r"ignored .* 1$"), write(skeleton(3, seed=0), f"b/{_FIRST}")
    ),
    "44 twice, other bytes": Case(
        4, (rf"{_FIRST[:20]} occurs with different contents: ",), write(skeleton(9), f"b/{_FIRST}"), leaves=()
    ),
    "44 twice, in a folder and a zip": Case(
        4, (r"occurs with different contents: .*a\.zip!",), zipped(name=_FIRST), leaves=()
    ),
    "45 FIFO": Case(QUARANTINED, (f"{NAME}: not-regular: ",), lambda raw: os.mkfifo(raw / NAME)),
    "45 device": Case(QUARANTINED, (f"{NAME}: not-regular: ",), lambda raw: (raw / NAME).symlink_to("/dev/zero")),
    "45 directory": Case(QUARANTINED, (f"{NAME}: not-regular: ",), lambda raw: (raw / NAME).mkdir()),
    "45 looping link": Case(QUARANTINED, (f"{NAME}: not-regular: ",), looping),
    "45 escaping link": Case(QUARANTINED, (f"{NAME}: not-regular: ",), escaping, leaves=("elsewhere", "out.zarr")),
    "45 FIFO as a zip": Case(0, (r"ignored .* 1$",), lambda raw: os.mkfifo(raw / "a.zip")),
    "45 a folder that links to itself": Case(QUARANTINED, ("not-regular",), lambda raw: (raw / "b").symlink_to(raw)),
    "46 no permission": Case(
        QUARANTINED, (f"{NAME}: io: .*[Pp]ermission",), write(skeleton()), first=at_opening(refused, always=True)
    ),
    "46 gone while running": Case(
        QUARANTINED, (f"{NAME}: io: ",), write(skeleton()), first=at_opening(lambda path: path.unlink(missing_ok=True))
    ),
    "46 changed while running": Case(
        QUARANTINED, (f"{NAME}: io: ",), write(skeleton()), first=at_opening(lambda path: path.write_bytes(b"1\n"))
    ),
    "46 gone before it resumes": Case(
        4, (f"gone: {NAME[:20]}", "new: S001C003P021R002A002"), write(b"bad"), ["--resume"], [["--max-bad", "0"]],
        lambda raw: (raw / NAME).rename(raw / NAME.replace("P020", "P021")), leaves=("out.zarr.wip",),
    ),
    "47 a name with escape codes": Case(
        QUARANTINED, (rf"^  \\x1b\[31mred/{NAME}: empty: ",), write(b"", f"\x1b[31mred/{NAME}")
    ),
    "47 a name that is not UTF-8": Case(
        QUARANTINED, (rf"^  \\udcff\\udcfe/{NAME}: empty: ",), write(b"", os.fsdecode(b"\xff\xfe/") + NAME)
    ),
    "48 .. in a zip": Case(QUARANTINED, (rf"a\.zip!\.\./{NAME}: zip-name: ",), zipped(name=f"../{NAME}")),
    "48 encrypted": Case(QUARANTINED, (rf"a\.zip!{NAME}: zip-encrypted: ",), zipped(encrypted)),
    "48 damaged member": Case(QUARANTINED, (rf"a\.zip!{NAME}: zip-damaged: ",), zipped(damaged)),
    "48 a ratio over 200": Case(QUARANTINED, (rf"a\.zip!{NAME}: zip-ratio: ",), packed_tight),
    "48 a damaged directory": Case(4, (r"a\.zip: not a readable zip",), zipped(lambda data: data[:-30]), leaves=()),
}  # fmt: skip


def _usage(*arguments: str, says: str) -> Case:
    return Case(2, (says,), arguments=arguments, leaves=())


COMMAND_LINE: dict[str, Case] = {
    "unknown option": _usage("--worker", "2", says="--workers"),
    "unknown option, near no other": _usage("--fast", says="No such option"),
    "unknown source": _usage("--source", "ntv", says="did you mean 'ntu'"),
    "unknown mode": _usage("--mode", "exactly", says="'exact'"),
    "unknown executor": _usage("--executor", "threads", says="'processes'"),
    "workers 0": _usage("--workers", "0", says="--workers"),
    "workers -1": _usage("--workers", "-1", says="--workers"),
    "workers of text": _usage("--workers", "two", says="--workers"),
    "frames 0": _usage("--frames", "0", says="--frames"),
    "frames 10^12": _usage("--frames", "1000000000000", says="--frames"),
    "max-bad 2": _usage("--max-bad", "2", says="--max-bad"),
    "max-bad nan": _usage("--max-bad", "nan", says="--max-bad"),
    "max-range 0": _usage("--max-range", "0", says="--max-range"),
    "max-range -1": _usage("--max-range", "-1", says="--max-range"),
    "max-range inf": _usage("--max-range", "inf", says="--max-range"),
    "max-range nan": _usage("--max-range", "nan", says="--max-range"),
    "no input": _usage("--raw", "{place}/gone", says="no input at .*gone"),
    "input empty": Case(2, ("is empty",), good=False, leaves=()),
    "input without recordings": Case(
        4, ("looked for .skeleton files or zip members, as",), write(b"", "a.txt"), good=False, leaves=()
    ),
    "input a recording": Case(0, (r"ok .* 1$",), arguments=["--raw", f"{{place}}/raw/{_FIRST}"]),
    "input a FIFO": Case(
        2, ("fifo",), lambda raw: os.mkfifo(raw.parent / "fifo"), ["--raw", "{place}/fifo"], leaves=("fifo",)
    ),
    "input a device": Case(2, ("/dev/zero",), arguments=["--raw", "/dev/zero"], leaves=()),
    "output inside the input": _usage("--out", "{place}/raw/out.zarr", says="would replace, or be inside"),
    "output equal to the input": _usage("--out", "{place}/raw", says="would replace, or be inside"),
    "output inside the input, by a link": Case(
        2, ("would replace, or be inside",), lambda raw: (raw.parent / "link").symlink_to(raw),
        ["--out", "{place}/link/out.zarr"], leaves=("link",),
    ),
    "input inside the output": _usage("--out", "{place}", says="would replace, or be inside"),
    "output there already": Case(2, ("is there already: add --overwrite",), before=[[]]),
    "output there, of other settings": Case(
        4, ("frames was None, now 7", "mode was 'reference', now 'exact'"),
        arguments=["--resume", "--frames", "7", "--mode", "exact"], before=[[]],
    ),
    "output a file": Case(2, ("out.zarr",), lambda raw: (raw.parent / "out.zarr").write_bytes(b"dear")),
    "output a file, overwrite": Case(
        2, ("not a store",), lambda raw: (raw.parent / "out.zarr").write_bytes(b"dear"), ["--overwrite"]
    ),
    "output a folder of other things": Case(
        2, ("not a store",), lambda raw: write_folder(raw.parent / "out.zarr", {"letter": b"dear"}), ["--overwrite"]
    ),
    "output below a file": Case(
        5, ("letter",), lambda raw: (raw.parent / "letter").write_bytes(b"dear"),
        ["--out", "{place}/letter/out.zarr"], leaves=("letter",),
    ),
    "output a dangling link": Case(
        2, ("out.zarr",), lambda raw: (raw.parent / "out.zarr").symlink_to(raw.parent / "nowhere")
    ),
    "unfinished work there": Case(
        2, ("holds unfinished work: add --resume",), write(b"bad"), before=[["--max-bad", "0"]],
        leaves=("out.zarr.wip",),
    ),
    "unfinished work of other settings": Case(
        4, ("max_range was 20.0, now 5.0", "frames was None, now 7"), write(b"bad"),
        ["--resume", "--max-range", "5", "--frames", "7"], [["--max-bad", "0"]], leaves=("out.zarr.wip",),
    ),
    "too many bad": Case(
        4, (r"1 of 4 recordings are bad, more than --max-bad 0 allows",), write(b"bad"), ["--max-bad", "0"],
        leaves=("out.zarr.wip",),
    ),
    "only bad ones": Case(
        4, ("none of 1 recordings can be used",), write(b"bad"), good=False, leaves=("out.zarr.wip",)
    ),
    "strict stops at the first": Case(
        4, (f"{NAME}.*--strict stops",), write(b"bad"), ["--strict"], leaves=("out.zarr.wip",)
    ),
}  # fmt: skip

CASES = SKELETONS | COMMAND_LINE


def try_case(case: Case, place: Path) -> tuple[Ended, str]:
    """Hand one bad input to the command in an empty folder; return its end, and what is wrong with it."""
    raw = write_folder(place / "raw", files(3) if case.good else {})
    raw.mkdir(parents=True, exist_ok=True)
    case.make(raw)
    command = ["prepare", "--raw", raw, "--out", place / "out.zarr", "--executor", "inline"]
    for arguments in case.before:
        smae(*command, *arguments)
    case.between(raw)
    arguments = [argument.format(place=place) for argument in case.arguments]
    ended = smae(*command, *arguments, first=case.first(raw) if case.first else None)
    # The table of results is padded with spaces, and cut where a path is long.
    shown = "\n".join(re.sub(r"(?<=\S) +", " ", line).rstrip() for line in (ended.out + ended.err).splitlines())
    left = sorted(set(os.listdir(place)) - {"raw"})
    problems = [f"not printed: {pattern}" for pattern in case.says if not re.search(pattern, shown, re.MULTILINE)]
    if ended.code != case.code:
        problems.append(f"exit code {ended.code}, expected {case.code}")
    if "Traceback" in shown or "\x1b" in shown:
        problems.append("a traceback or escape code")
    if left != sorted(case.leaves):
        problems.append(f"left: {left}")
    if case.same and not problems:
        problems += _other_rows(place)
    return ended, "; ".join(problems) + (f" in {shown[:800]!r}" if problems else "")


def _other_rows(place: Path) -> list[str]:
    write_folder(place / "clean", {NAME: GOOD})
    smae("prepare", "--raw", place / "clean", "--out", place / "clean.zarr", "--executor", "inline")
    shards = [path.relative_to(place / "clean.zarr") for path in place.glob("clean.zarr/*/c/*/0*/*") if path.is_file()]
    shards += [path.relative_to(place / "clean.zarr") for path in place.glob("clean.zarr/*/c/*/0") if path.is_file()]
    same = [(place / "out.zarr" / name).read_bytes() == (place / "clean.zarr" / name).read_bytes() for name in shards]
    return [] if same and all(same) else ["other rows than the clean text's"]


def trials(folder: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return of each case the exit code, what was printed, and what is wrong with it."""
    warm_up()
    results = {}
    for number, name in enumerate(names):
        place = Path(folder) / str(number)
        place.mkdir()
        ended, problem = try_case(CASES[name], place)
        lines = (
            [line.strip() for line in ended.out.splitlines() if NAME in line]
            or ended.messages
            or [" ".join(line.split()) for line in ended.out.splitlines() if re.search(r"noted|excluded|ignored", line)]
        )
        printed = [line.replace(f"{place}/", "") for line in lines]
        results[name] = {"code": ended.code, "printed": printed, "problem": problem, "seconds": ended.seconds}
        shutil.rmtree(place)
    return results


def everything(folder: Path) -> dict[str, dict[str, Any]]:
    """Try all cases, in two programs; return their results by name, in the order of the table."""
    names = list(CASES)
    jobs = []
    for start in range(2):
        (folder / str(start)).mkdir()
        jobs.append({"folder": folder / str(start), "names": names[start::2]})
    found = {name: result for answered in in_programs(PROGRAM, jobs) for name, result in answered.items()}
    return {name: found[name] for name in names}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as a table of Markdown."""
    lines = ["| input | exit | printed |", "|---|---|---|"]
    for name, result in results.items():
        printed = "<br>".join(line.replace("|", "\\|")[:300] for line in result["printed"][:4])
        wrong = f" **{result['problem'][:200]}**" if result["problem"] else ""
        lines.append(f"| {name} | {result['code']} | {printed}{wrong} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        answer(trials)
    else:
        with in_memory() as scratch:
            print(table(everything(scratch)))

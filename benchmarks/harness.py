"""Times cases in interleaved rounds; medians, rates, ratios of one run, and the machine they were measured on."""

from __future__ import annotations

import gc
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from smae.data.prepare.executors import usable_cores

RESULTS = Path(__file__).resolve().parent / "results"


def _nothing() -> None:
    """Stand for a case that needs no setting up."""


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        name: what the table calls it.
        run: does the work.
        items: files or clips that one run goes through.
        bytes: bytes that one run goes through.
        setup: runs before each round, untimed.
    """

    name: str
    run: Callable[[], object]
    items: int
    bytes: int
    setup: Callable[[], object] = _nothing


@dataclass(frozen=True)
class Row:
    """What was measured of one case: medians over the rounds.

    Attributes:
        name: the case.
        seconds: wall time of one run.
        cpu: seconds of processor time, of child processes too.
        spread: (slowest - fastest round) / median, of the wall time.
        items, bytes: what one run went through.
    """

    name: str
    seconds: float
    cpu: float
    spread: float
    items: int
    bytes: int

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds

    @property
    def byte_rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds

    @property
    def cpu_byte_rate(self) -> float:
        """Bytes per second of processor time: the rate of one core, independent of other load on the machine."""
        return self.bytes / max(self.cpu, 1e-9)


@dataclass(frozen=True)
class Figure:
    """One ratio or size, and what it should be.

    Attributes:
        name: what it is.
        value: the figure.
        unit: ``x``, ``%``, ``MiB``, ``s``.
        goal, stretch: what is promised and what is hoped for, where there is such a promise.
        at_most: whether the goal is an upper bound.
    """

    name: str
    value: float
    unit: str = "x"
    goal: float | None = None
    stretch: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return self._reaches(self.goal)

    @property
    def verdict(self) -> str:
        """``missed``, ``met``, ``met, stretch too``, or nothing."""
        if self.met is None:
            return ""
        return "missed" if not self.met else "met, stretch too" if self._reaches(self.stretch) else "met"

    def _reaches(self, bound: float | None) -> bool | None:
        return None if bound is None else self.value <= bound if self.at_most else self.value >= bound


@dataclass(frozen=True)
class Report:
    """One benchmark's outcome.

    Attributes:
        name: file name of its page in ``results/``.
        item: what its cases go through: ``files`` or ``clips``.
        machine: hardware and versions.
        about: lines on what was measured and how.
        rows, figures: see ``Row`` and ``Figure``.
    """

    name: str
    item: str
    machine: dict[str, str]
    about: tuple[str, ...]
    rows: tuple[Row, ...]
    figures: tuple[Figure, ...] = field(default=())

    def row(self, name: str) -> Row:
        """Return one case's row."""
        return next(row for row in self.rows if row.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, rates and verdicts included."""
        rows = [asdict(row) | {"rate": row.rate, "byte_rate": row.byte_rate} for row in self.rows]
        return asdict(self) | {"rows": rows, "figures": [asdict(one) | {"met": one.met} for one in self.figures]}

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return (title, head, lines) of each table."""
        head = ["case", f"{self.item}/s", "MB/s", "s", "CPU s", "spread", self.item]
        lines = [
            [row.name, _short(row.rate), _short(row.byte_rate / 1e6), f"{row.seconds:.3f}", f"{row.cpu:.3f}",
             f"{row.spread:.0%}", f"{row.items:,}"]
            for row in self.rows
        ]  # fmt: skip
        tables = [("Medians of one run", head, lines)]
        if self.figures:
            figures = [
                [one.name, _number(one.value, one.unit), _bound(one, one.goal), _bound(one, one.stretch), one.verdict]
                for one in self.figures
            ]
            tables.append(("Ratios and sizes", ["", "measured", "goal", "stretch", ""], figures))
        return tables

    def show(self) -> None:
        """Print everything for people."""
        console = Console(width=None if Console().is_terminal else 130)
        for key, value in self.machine.items():
            console.print(f"[dim]{key}: {value}[/dim]", highlight=False)
        for line in self.about:
            console.print(line, highlight=False, markup=False)
        for title, head, lines in self.tables():
            table = Table(title=title, title_justify="left")
            for number, column in enumerate(head):
                table.add_column(column, justify="left" if number == 0 else "right")
            for cells in lines:
                table.add_row(*cells)
            console.print(table)

    def to_markdown(self) -> str:
        """Return the page for ``results/``."""
        lines = [f"# {self.name}", "", f"`python -m benchmarks.{self.name}`", ""]
        lines += [f"- {key}: {value}" for key, value in self.machine.items()]
        lines += [""] + [f"- {line}" for line in self.about]
        for title, head, rows in self.tables():
            lines += ["", f"## {title}", "| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
            lines += ["| " + " | ".join(cells) + " |" for cells in rows]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path = RESULTS) -> Path:
        """Write ``<name>.md`` and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.md"
        path.write_text(self.to_markdown(), encoding="utf-8")
        return path


def measure(cases: Sequence[Case], *, rounds: int) -> tuple[Row, ...]:
    """Time every case once a round, so that a slow minute of the machine falls on all of them."""
    wall: dict[str, list[float]] = {case.name: [] for case in cases}
    cpu: dict[str, list[float]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            case.setup()
            gc.collect()
            began, before = time.perf_counter(), _cpu_seconds()
            case.run()
            wall[case.name].append(time.perf_counter() - began)
            cpu[case.name].append(_cpu_seconds() - before)
    rows = []
    for case in cases:
        times = wall[case.name]
        middle = statistics.median(times)
        spread = (max(times) - min(times)) / middle
        rows.append(Row(case.name, middle, statistics.median(cpu[case.name]), spread, case.items, case.bytes))
    return tuple(rows)


def present(report: Report, *, as_json: bool, write: bool) -> None:
    """Print a report, as JSON if asked for, and write its page if asked for."""
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        report.show()
    if write:
        path = report.write()
        if not as_json:
            print(f"written: {os.path.relpath(path)}")


def machine(*packages: str) -> dict[str, str]:
    """Return what the figures depend on: processor, cores, memory, load, system, and the packages' versions."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "processor": f"{_processor()}, {usable_cores()} usable cores",
        "memory": f"{memory:.0f} GiB",
        "load average at the start": ", ".join(f"{value:.1f}" for value in os.getloadavg()),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("smae", *packages)),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown processor"


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _number(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == "%" else f"{value:,.2f} {unit}" if value < 10 else f"{value:,.1f} {unit}"


def _bound(figure: Figure, bound: float | None) -> str:
    return "" if bound is None else f"{'≤' if figure.at_most else '≥'} {_number(bound, figure.unit)}"

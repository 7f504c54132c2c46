"""Pages in Chromium: no error, no request, no overflow on a phone, and their response to the pointer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import smae
from smae.data.synthetic.synth import CLASSES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const state = { errors: window.problems, wide: document.documentElement.scrollWidth, requests: [] };
  state.requests = performance.getEntriesByType("resource").map((one) => one.name);
  state.drawn = [...document.querySelectorAll("canvas")].map((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.some((value) => value);
  });
  const over = (node, x, y) => {
    const box = node.getBoundingClientRect();
    const at = { bubbles: true, clientX: box.left + x * box.width, clientY: box.top + y * box.height };
    node.dispatchEvent(new PointerEvent("pointermove", at));
    const tooltip = document.querySelector(".tooltip");
    const text = tooltip && !tooltip.hidden ? tooltip.textContent : "";
    node.dispatchEvent(new PointerEvent("pointerleave", at));
    return text;
  };
  const chart = document.querySelector("svg.chart"), dot = document.querySelector(".points use");
  const matrix = document.querySelector("svg[data-matrix]");
  state.chart = chart ? over(chart, 0.5, 0.5) : "";
  state.dot = dot ? over(dot, 0.5, 0.5) : "";
  const strip = document.querySelector("svg[data-strip]");
  state.strip = strip ? over(strip, 0.99, 0.01) : "";
  if (matrix) {
    const { left, top, cell } = JSON.parse(matrix.dataset.matrix), view = matrix.viewBox.baseVal;
    state.cell = over(matrix, (left + cell / 2) / view.width, (top + cell / 2) / view.height);
    const buttons = document.querySelectorAll(".choices .buttons button");
    buttons[1].click();
    state.choice = [...document.querySelectorAll("[data-choice]")].map((panel) => panel.hidden);
    const looks = () => dot.getAttribute("href") + getComputedStyle(dot).color, before = looks();
    document.querySelector('button[data-by="subject"]').click();
    state.recoloured = looks() !== before;
    document.querySelector(".of-subject button").click();
    state.dimmed = document.querySelectorAll(".map .dim").length;
  }
  const out = document.createElement("script");
  out.type = "application/json";
  out.id = "state";
  out.textContent = JSON.stringify(state).replace(/</g, "\\\\u003c");
  document.body.append(out);
}, 300));
</script>
"""
WATCH = (
    '<script>window.problems = []; addEventListener("error", (event) => window.problems.push(event.message));</script>'
)


def browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the browser on a page with an empty profile."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        "--virtual-time-budget=4000", f"--user-data-dir={folder / 'profile'}", *options, page.resolve().as_uri(),
    ]  # fmt: skip
    own = os.environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=own)


def open_page(page: Path, folder: Path) -> dict:
    """Return the state of a page after pointer events; errors include the messages of the browser."""
    text = page.read_text(encoding="utf-8")
    watched = folder / "watched.html"
    watched.write_text(text.replace("<title>", WATCH + "<title>", 1).replace("</body>", PROBE + "</body>", 1), "utf-8")
    ended = browse(watched, folder, "--window-size=1280,900", "--dump-dom")
    state = json.loads(re.findall(r'id="state">(.*?)</script>', ended.stdout, re.DOTALL)[0])
    state["errors"] += [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    return state


@pytest.fixture(scope="module")
def page(home: Path) -> Path:
    return smae.report(home / "first", device="cpu")


def test_the_page_of_a_run_works_and_loads_nothing(page: Path, tmp_path: Path):
    state = open_page(page, tmp_path)
    assert state["errors"] == []
    assert state["requests"] == []
    assert state["drawn"] == [True] * 9, "three clips, three panels each"
    assert re.match(r"first: [\d.]+  \(step \d+\)", state["chart"])
    assert re.match(rf"A001 {CLASSES['A001']}\ncorrect: \d+ of \d+ \(\d+ %\)", state["cell"])
    assert re.match(r"S\d{3}C001P\d{3}R\d{3}A00\d · A00\d \w+.* · subject \d", state["dot"])
    assert re.fullmatch(r"spine base, frame 12: (visible|masked, error \d+ mm)", state["strip"])
    assert state["choice"] == [True, False]
    assert state["recoloured"]
    assert state["dimmed"] > 0


def test_a_comparison_works_and_loads_nothing(home: Path, tmp_path: Path):
    state = open_page(smae.report(home / "first", home / "second", out=tmp_path / "both.html"), tmp_path)
    assert (state["errors"], state["requests"]) == ([], [])
    assert re.match(r"first: .*\nsecond: .*", state["chart"])


def test_the_page_of_a_clip_works_and_loads_nothing(home: Path, tmp_path: Path):
    state = open_page(smae.view(home / "ntu.zarr", index=0, raw=home / "ntu", out=tmp_path / "clip.html"), tmp_path)
    assert (state["errors"], state["requests"], state["drawn"]) == ([], [], [True, True])


def test_loading_anything_is_an_error(page: Path, tmp_path: Path):
    """The policy of the page blocks requests, and the tests above would see the error."""
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text(encoding="utf-8").replace("</main>", '<img src="x.png"></main>', 1), "utf-8")
    assert any("Content Security Policy" in line for line in open_page(bad, tmp_path)["errors"])


@pytest.mark.parametrize("kind", ["run", "several", "clip"])
def test_pages_fit_on_a_phone(page: Path, home: Path, tmp_path: Path, kind: str):
    shown = {
        "run": lambda: page,
        "several": lambda: smae.report(home / "first", home / "second", out=tmp_path / "both.html"),
        "clip": lambda: smae.view(home / "ntu.zarr", index=0, out=tmp_path / "clip.html"),
    }[kind]()
    # A window cannot be as narrow as a phone, a frame in it can.
    inner = tmp_path / "inner.html"
    measure = (
        "<script>addEventListener('load', () => parent.postMessage([document.documentElement.scrollWidth, innerWidth],"
        " '*'));</script>"
    )
    inner.write_text(shown.read_text(encoding="utf-8").replace("</body>", measure + "</body>", 1), "utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(
        '<body><script>addEventListener("message", (event) => { document.title = "wide " + event.data; });</script>'
        '<iframe src="inner.html" style="width:390px;height:844px;border:0"></iframe></body>'
    )
    # On a busy machine the browser may print the page before the frame in it has loaded.
    for _ in range(3):
        dom = browse(outer, tmp_path, "--allow-file-access-from-files", "--dump-dom").stdout
        if "<title>wide" in dom:
            break
    assert "<title>wide 390,390</title>" in dom


def test_the_page_can_be_printed(page: Path, tmp_path: Path):
    browse(page, tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    pdf = (tmp_path / "page.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 20

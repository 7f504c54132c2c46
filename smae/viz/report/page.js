// Interaction on the page of a run: players, tabs, and values shown under the pointer.

const scenes = JSON.parse(document.getElementById("data").textContent);
for (const root of document.querySelectorAll(".player")) new Player(root, scenes[Number(root.dataset.scene)]);

for (const group of document.querySelectorAll(".choices")) {
  const buttons = [...group.querySelectorAll(":scope > .buttons > button")];
  const panels = [...group.querySelectorAll(":scope > [data-choice]")];
  buttons.forEach((button, number) => button.addEventListener("click", () => {
    press(buttons, button);
    panels.forEach((panel, other) => { panel.hidden = other !== number; });
  }));
}

function press(buttons, chosen) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
}

// Position of the pointer in the units of an SVG's viewBox.
function positionIn(svg, event) {
  const box = svg.getBoundingClientRect(), style = getComputedStyle(svg), edge = (side) => parseFloat(style["padding" + side]) || 0;
  const wide = box.width - edge("Left") - edge("Right"), high = box.height - edge("Top") - edge("Bottom"), view = svg.viewBox.baseVal;
  return [(event.clientX - box.left - edge("Left")) * view.width / wide, (event.clientY - box.top - edge("Top")) * view.height / high];
}

const tooltip = document.createElement("div");
tooltip.className = "tooltip";
tooltip.hidden = true;
document.body.append(tooltip);

function showTooltip(event, text) {
  tooltip.textContent = text;
  tooltip.hidden = false;
  const wide = tooltip.offsetWidth, limit = scrollX + document.documentElement.clientWidth - wide - 8;
  tooltip.style.left = `${Math.max(scrollX + 4, Math.min(event.pageX + 14, limit))}px`;
  tooltip.style.top = `${Math.max(scrollY + 4, event.pageY - tooltip.offsetHeight - 12)}px`;
}

for (const chart of document.querySelectorAll("svg.chart")) {
  const cursor = chart.querySelector(".cursor");
  const lines = [...chart.querySelectorAll("g[data-points]")].map((line) => {
    const drawn = line.querySelector("polyline");
    const at = drawn ? drawn.getAttribute("points").split(" ").map((point) => Number(point.split(",")[0])) : [Number(line.querySelector("circle").getAttribute("cx"))];
    return { name: line.dataset.name, values: JSON.parse(line.dataset.points), at };
  });
  const move = (event) => {
    const [x] = positionIn(chart, event), texts = [];
    let cursorX = null;
    for (const line of lines) {
      const near = line.at.reduce((best, at, number) => Math.abs(at - x) < Math.abs(line.at[best] - x) ? number : best, 0);
      const [step, value] = line.values[near];
      if (cursorX === null || Math.abs(line.at[near] - x) < Math.abs(cursorX - x)) cursorX = line.at[near];
      texts.push(`${line.name}: ${value}  (${chart.dataset.of} ${Math.round(step).toLocaleString("en")})`);
    }
    cursor.setAttribute("x1", cursorX);
    cursor.setAttribute("x2", cursorX);
    cursor.removeAttribute("hidden");
    showTooltip(event, texts.join("\n"));
  };
  chart.addEventListener("pointermove", move);
  chart.addEventListener("pointerdown", move);
  chart.addEventListener("pointerleave", () => { cursor.setAttribute("hidden", ""); tooltip.hidden = true; });
}

for (const svg of document.querySelectorAll("svg[data-matrix]")) {
  const { left, top, cell, names, cells } = JSON.parse(svg.dataset.matrix), count = names.length;
  const counts = new Map(cells.map(([row, column, number]) => [row * count + column, number]));
  const total = names.map((name, row) => cells.reduce((sum, one) => sum + (one[0] === row ? one[2] : 0), 0));
  const cursor = svg.querySelector(".cursor");
  const move = (event) => {
    const [x, y] = positionIn(svg, event), column = Math.floor((x - left) / cell), row = Math.floor((y - top) / cell);
    if (column < 0 || row < 0 || column >= count || row >= count) return leave();
    const number = counts.get(row * count + column) || 0;
    const what = row === column ? `${names[row]}\ncorrect` : `${names[row]}\npredicted as ${names[column]}`;
    cursor.setAttribute("x", left + cell * column - 0.5);
    cursor.setAttribute("y", top + cell * row - 0.5);
    cursor.removeAttribute("hidden");
    showTooltip(event, `${what}: ${number} of ${total[row]}${total[row] ? ` (${Math.round(100 * number / total[row])} %)` : ""}`);
  };
  const leave = () => { cursor.setAttribute("hidden", ""); tooltip.hidden = true; };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
}

for (const svg of document.querySelectorAll("svg[data-strip]")) {
  const { names, cells } = JSON.parse(svg.dataset.strip), words = { "-1": "visible", "-2": "absent", "-3": "masked" };
  const move = (event) => {
    const box = svg.getBoundingClientRect(), within = (part, count) => Math.max(0, Math.min(count - 1, Math.floor(part * count)));
    const row = within((event.clientY - box.top) / box.height, names.length);
    const column = within((event.clientX - box.left) / box.width, cells[row].length), value = cells[row][column];
    showTooltip(event, `${names[row]}, frame ${column + 1}: ${words[value] || `masked, error ${value} mm`}`);
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", () => { tooltip.hidden = true; });
}

for (const map of document.querySelectorAll(".map")) {
  const colourings = [...map.querySelectorAll("button[data-by]")], keys = [...map.querySelectorAll(".keys button")];
  const dots = [...map.querySelectorAll(".points use")];
  const markers = (by) => keys.filter((key) => key.dataset[by] !== undefined).map((key) => key.querySelector("use"));
  let chosen = null, by = "class";
  const highlight = (key) => dots.forEach((dot) => dot.classList.toggle("dim", Boolean(key) && dot.dataset[by] !== key.dataset[by]));
  for (const button of colourings) {
    button.addEventListener("click", () => {
      by = button.dataset.by;
      press(colourings, button);
      map.classList.toggle("by-class", by === "class");
      map.classList.toggle("by-subject", by === "subject");
      const looks = markers(by);
      for (const dot of dots) for (const name of ["href", "color"]) dot.setAttribute(name, looks[dot.dataset[by]].getAttribute(name));
      chosen = null;
      press(keys, null);
      highlight(null);
    });
  }
  for (const key of keys) {
    key.addEventListener("pointerenter", () => highlight(key));
    key.addEventListener("pointerleave", () => highlight(chosen));
    key.addEventListener("click", () => { chosen = chosen === key ? null : key; press(keys, chosen); highlight(chosen); });
  }
  for (const dot of dots) {
    const words = dot.querySelector("title").textContent;
    for (const name of ["pointermove", "pointerdown"]) dot.addEventListener(name, (event) => showTooltip(event, words));
    dot.addEventListener("pointerleave", () => { tooltip.hidden = true; });
    dot.querySelector("title").remove();
    dot.setAttribute("aria-label", words);
  }
}

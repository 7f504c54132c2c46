// What the page of a run does when it is touched: players, choices, and what charts tell under the pointer.

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

// Where the pointer is, in the units of an SVG's viewBox.
function inside(svg, event) {
  const box = svg.getBoundingClientRect(), style = getComputedStyle(svg), edge = (side) => parseFloat(style["padding" + side]) || 0;
  const wide = box.width - edge("Left") - edge("Right"), high = box.height - edge("Top") - edge("Bottom"), view = svg.viewBox.baseVal;
  return [(event.clientX - box.left - edge("Left")) * view.width / wide, (event.clientY - box.top - edge("Top")) * view.height / high];
}

const reading = document.createElement("div");
reading.className = "reading";
reading.hidden = true;
document.body.append(reading);

function tell(event, text) {
  reading.textContent = text;
  reading.hidden = false;
  const wide = reading.offsetWidth, most = scrollX + document.documentElement.clientWidth - wide - 8;
  reading.style.left = `${Math.max(scrollX + 4, Math.min(event.pageX + 14, most))}px`;
  reading.style.top = `${Math.max(scrollY + 4, event.pageY - reading.offsetHeight - 12)}px`;
}

for (const chart of document.querySelectorAll("svg.chart")) {
  const cursor = chart.querySelector(".cursor");
  const lines = [...chart.querySelectorAll("g[data-points]")].map((line) => {
    const drawn = line.querySelector("polyline");
    const at = drawn ? drawn.getAttribute("points").split(" ").map((point) => Number(point.split(",")[0])) : [Number(line.querySelector("circle").getAttribute("cx"))];
    return { name: line.dataset.name, values: JSON.parse(line.dataset.points), at };
  });
  const move = (event) => {
    const [x] = inside(chart, event), told = [];
    let place = null;
    for (const line of lines) {
      const near = line.at.reduce((best, at, number) => Math.abs(at - x) < Math.abs(line.at[best] - x) ? number : best, 0);
      const [step, value] = line.values[near];
      if (place === null || Math.abs(line.at[near] - x) < Math.abs(place - x)) place = line.at[near];
      told.push(`${line.name}: ${value}  (${chart.dataset.of} ${Math.round(step).toLocaleString("en")})`);
    }
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.removeAttribute("hidden");
    tell(event, told.join("\n"));
  };
  chart.addEventListener("pointermove", move);
  chart.addEventListener("pointerdown", move);
  chart.addEventListener("pointerleave", () => { cursor.setAttribute("hidden", ""); reading.hidden = true; });
}

for (const svg of document.querySelectorAll("svg[data-matrix]")) {
  const { left, top, cell, names, cells } = JSON.parse(svg.dataset.matrix), count = names.length;
  const held = new Map(cells.map(([row, column, number]) => [row * count + column, number]));
  const total = names.map((name, row) => cells.reduce((sum, one) => sum + (one[0] === row ? one[2] : 0), 0));
  const cursor = svg.querySelector(".cursor");
  const move = (event) => {
    const [x, y] = inside(svg, event), column = Math.floor((x - left) / cell), row = Math.floor((y - top) / cell);
    if (column < 0 || row < 0 || column >= count || row >= count) return leave();
    const number = held.get(row * count + column) || 0;
    const what = row === column ? `${names[row]}\nrecognised` : `${names[row]}\ntaken for ${names[column]}`;
    cursor.setAttribute("x", left + cell * column - 0.5);
    cursor.setAttribute("y", top + cell * row - 0.5);
    cursor.removeAttribute("hidden");
    tell(event, `${what}: ${number} of ${total[row]}${total[row] ? ` (${Math.round(100 * number / total[row])} %)` : ""}`);
  };
  const leave = () => { cursor.setAttribute("hidden", ""); reading.hidden = true; };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
}

for (const map of document.querySelectorAll(".map")) {
  const ways = [...map.querySelectorAll("button[data-by]")], keys = [...map.querySelectorAll(".keys button")];
  const dots = [...map.querySelectorAll("circle")];
  const belongs = (dot, key) => key.dataset.c !== undefined ? dot.parentNode.dataset.c === key.dataset.c : dot.dataset.s === key.dataset.s;
  let held = null;
  const light = (key) => dots.forEach((dot) => dot.classList.toggle("dim", Boolean(key) && !belongs(dot, key)));
  for (const way of ways) {
    way.addEventListener("click", () => {
      press(ways, way);
      map.classList.toggle("by-class", way.dataset.by === "class");
      map.classList.toggle("by-subject", way.dataset.by === "subject");
      held = null;
      press(keys, null);
      light(null);
    });
  }
  for (const key of keys) {
    key.addEventListener("pointerenter", () => light(key));
    key.addEventListener("pointerleave", () => light(held));
    key.addEventListener("click", () => { held = held === key ? null : key; press(keys, held); light(held); });
  }
  for (const dot of dots) {
    const words = dot.querySelector("title").textContent;
    for (const name of ["pointermove", "pointerdown"]) dot.addEventListener(name, (event) => tell(event, words));
    dot.addEventListener("pointerleave", () => { reading.hidden = true; });
    dot.querySelector("title").remove();
    dot.setAttribute("aria-label", words);
  }
}

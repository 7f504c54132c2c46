// Player of one scene: canvases side by side, and the controls below them.

const NOT_TRACKED = 0, MASKED = 4, RECONSTRUCTED = 5;

// Expand positions to all joints: the page carries only drawn ones, and those of equal panels once.
function unpack(scene) {
  for (const panel of scene.panels) {
    panel.kind = Uint8Array.from(panel.kind, Number);
    if (panel.sameAs >= 0) {
      panel.positions = scene.panels[panel.sameAs].positions;
      continue;
    }
    const all = new Int32Array(3 * panel.kind.length);
    for (let i = 0, at = 0; i < panel.kind.length; i++) {
      if (panel.kind[i] === scene.absent) continue;
      for (let c = 0; c < 3; c++) all[3 * i + c] = panel.positions[at++];
    }
    panel.positions = all;
  }
  return scene;
}

// In dark mode the bodies' colours are mixed with white.
function lighter(colour) {
  const parts = [1, 3, 5].map((at) => Math.round(parseInt(colour.slice(at, at + 2), 16) * 0.55 + 255 * 0.45));
  return `rgb(${parts})`;
}

function isDark() {
  return matchMedia("(prefers-color-scheme: dark)").matches && !document.documentElement.dataset.print;
}

class Player {
  constructor(root, scene) {
    this.root = root;
    this.scene = unpack(scene);
    this.joints = scene.joints.length;
    this.slider = root.querySelector(".controls input");
    this.output = root.querySelector(".controls output");
    this.playButton = root.querySelector(".play");
    this.speed = root.querySelector(".speed");
    // On a page with other content the wheel scrolls the page, and keys are left alone.
    this.alone = root.dataset.alone === "yes";
    this.reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
    Object.assign(this, { yaw: scene.yaw, pitch: scene.pitch, zoom: 1, clock: 0, playing: false, last: 0, pointer: null, visible: true });
    scene.panels.forEach((panel, number) => {
      panel.canvas = root.querySelector(`canvas[data-panel="${number}"]`);
      panel.caption = root.querySelector(`small[data-frame="${number}"]`);
      this.listen(panel);
    });
    this.playButton.addEventListener("click", () => this.play(!this.playing));
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    root.querySelector(".reset").addEventListener("click", () => this.reset());
    if (this.alone) addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restyle());
    addEventListener("beforeprint", () => this.restyle());
    addEventListener("afterprint", () => this.restyle());
    new ResizeObserver(() => this.draw()).observe(root.querySelector(".panels"));
    new IntersectionObserver((entries) => this.setVisible(entries[entries.length - 1].isIntersecting)).observe(root);
    this.clock = this.reducedMotion || !this.alone ? Math.floor(scene.frames / 2) : 0;
    this.restyle();
    this.play(!this.reducedMotion);
  }

  frameNow() {
    return Math.floor(this.clock);
  }

  frameOf(panel) {
    return Math.floor(this.frameNow() * panel.frames / this.scene.frames);
  }

  // The sensor's view: x to its left, y up, z away. smae.viz.scene.Camera does the same.
  projector(panel, width, height) {
    const [mx, my, mz] = panel.centre, { yaw, pitch } = this;
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    const scale = 0.84 * this.zoom * Math.min(width / panel.width, height / panel.height);
    return (px, py, pz) => {
      const x = px - mx, y = py - my, z = pz - mz, across = z * sy - x * cy, depth = z * cy + x * sy;
      const away = depth * cp - y * sp, factor = scale * 5000 / Math.max(5000 + away, 500);
      return [width / 2 + across * factor, height / 2 - (y * cp + depth * sp) * factor, away];
    };
  }

  restyle() {
    const style = getComputedStyle(document.documentElement);
    this.ink = {};
    for (const name of ["ink", "card", "line", "ghost"]) this.ink[name] = style.getPropertyValue("--" + name).trim();
    this.ink.bodies = this.scene.bodyColours.map((colour) => isDark() ? lighter(colour) : colour);
    document.querySelectorAll(".key.body").forEach((key) => key.style.setProperty("--of", this.ink.bodies[key.dataset.role]));
    this.draw();
  }

  draw() {
    for (const panel of this.scene.panels) this.paint(panel);
    this.slider.value = this.frameNow();
    const time = this.scene.realTime ? ` · ${(this.frameNow() / this.scene.rate).toFixed(2)} s` : "";
    this.output.textContent = `${this.frameNow() + 1} / ${this.scene.frames}${time}`;
    const current = this.scene.track.findIndex(([first, end]) => first <= this.frameNow() && this.frameNow() < end);
    if (current >= 0) this.root.querySelector(".now").textContent = this.scene.track[current][2];
    this.root.querySelectorAll(".labels span").forEach((part, number) => part.classList.toggle("current", number === current));
  }

  paint(panel) {
    const { canvas } = panel, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d"), project = this.projector(panel, width, height);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.lineCap = "round";
    this.grid(pen, panel, project);
    const thick = Math.max(1.6, Math.min(width, height) / 130);
    if (panel.ghost >= 0) this.skeletons(pen, this.scene.panels[panel.ghost], project, thick, true);
    const spots = this.skeletons(pen, panel, project, thick, false);
    panel.caption.textContent = panel.frames === this.scene.frames ? "" : `frame ${this.frameOf(panel) + 1} / ${panel.frames}`;
    if (this.pointer && this.pointer.panel === panel) this.label(pen, panel, spots, width);
  }

  grid(pen, panel, project) {
    const [mx, , mz] = panel.centre, step = 500, reach = Math.ceil(panel.width / 2 / step + 1) * step;
    const x0 = Math.round(mx / step) * step, z0 = Math.round(mz / step) * step;
    pen.strokeStyle = this.ink.line;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let d = -reach; d <= reach; d += step) {
      for (const [a, b] of [[[x0 + d, z0 - reach], [x0 + d, z0 + reach]], [[x0 - reach, z0 + d], [x0 + reach, z0 + d]]]) {
        pen.moveTo(...project(a[0], panel.ground, a[1]).slice(0, 2));
        pen.lineTo(...project(b[0], panel.ground, b[1]).slice(0, 2));
      }
    }
    pen.stroke();
  }

  skeletons(pen, panel, project, thick, faint) {
    const spots = [];
    panel.bodies.forEach((name, body) => {
      const start = (body * panel.frames + this.frameOf(panel)) * this.joints, joints = [];
      for (let j = 0; j < this.joints; j++) {
        const i = start + j, kind = panel.kind[i];
        if (kind === this.scene.absent) { joints.push(null); continue; }
        const [x, y, away] = project(panel.positions[3 * i], panel.positions[3 * i + 1], panel.positions[3 * i + 2]);
        joints.push({ x, y, away, kind, joint: j, body, role: panel.roles[body], i });
      }
      this.bones(pen, joints, this.ink.bodies[panel.roles[body]], thick, faint);
      spots.push(...joints.filter(Boolean));
    });
    if (!faint) spots.sort((a, b) => b.away - a.away).forEach((spot) => this.dot(pen, spot, thick));
    return spots;
  }

  bones(pen, joints, colour, thick, faint) {
    for (const [a, b] of this.scene.bones) {
      const from = joints[a], to = joints[b];
      if (!from || !to) continue;
      const kinds = [from.kind, to.kind], ghost = faint || kinds.includes(MASKED);
      pen.strokeStyle = ghost ? this.ink.ghost : kinds.includes(RECONSTRUCTED) ? this.scene.kindColours[RECONSTRUCTED] : colour;
      pen.lineWidth = ghost ? thick * 0.6 : thick;
      pen.setLineDash(kinds.includes(MASKED) && !faint ? [3, 4] : kinds.includes(NOT_TRACKED) ? [2, 5] : []);
      pen.beginPath();
      pen.moveTo(from.x, from.y);
      pen.lineTo(to.x, to.y);
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  dot(pen, spot, thick) {
    const colour = this.scene.kindColours[spot.kind] || this.ink.bodies[spot.role];
    pen.beginPath();
    pen.arc(spot.x, spot.y, thick * 1.3, 0, 7);
    const hollow = spot.kind === NOT_TRACKED || spot.kind === MASKED;
    pen.fillStyle = hollow ? this.ink.card : colour;
    pen.fill();
    if (hollow) {
      pen.strokeStyle = colour;
      pen.lineWidth = Math.min(1.6, thick * 0.7);
      pen.stroke();
    }
  }

  label(pen, panel, spots, width) {
    const { pointer, scene, ink } = this;
    let near = null;
    for (const spot of spots) {
      const off = Math.hypot(spot.x - pointer.x, spot.y - pointer.y);
      if (off < (near ? near.off : 24)) near = { ...spot, off };
    }
    if (!near) return;
    let what = scene.words[near.kind];
    if (near.kind === RECONSTRUCTED && panel.ghost >= 0) {
      const truth = scene.panels[panel.ghost].positions;
      what += `, error ${Math.round(Math.hypot(...[0, 1, 2].map((c) => truth[3 * near.i + c] - panel.positions[3 * near.i + c])))} mm`;
    }
    const position = [0, 1, 2].map((c) => (panel.positions[3 * near.i + c] / 1000).toFixed(2)).join(", ");
    const body = panel.bodies.length > 1 ? panel.bodies[near.body] + " · " : "";
    const lines = [`${near.joint + 1} ${scene.joints[near.joint]}`, `${body}${what}`, `(${position}) m`];
    pen.font = "13px system-ui, sans-serif";
    const long = Math.max(...lines.map((line) => pen.measureText(line).width));
    const x = Math.max(6, Math.min(near.x + 12, width - long - 14)), y = Math.max(8, near.y - 62);
    pen.fillStyle = ink.ink;
    pen.beginPath();
    pen.rect(x - 6, y, long + 12, 56);
    pen.fill();
    pen.fillStyle = ink.card;
    lines.forEach((line, number) => pen.fillText(line, x, y + 16 + 17 * number));
    pen.strokeStyle = ink.ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.arc(near.x, near.y, 7, 0, 7);
    pen.stroke();
  }

  play(on) {
    this.playing = on;
    this.playButton.textContent = on ? "Pause" : "Play";
    this.last = 0;
    this.wake();
  }

  setVisible(visible) {
    this.visible = visible;
    this.last = 0;
    this.wake();
  }

  wake() {
    if (this.requested || !this.playing || !this.visible) return;
    this.requested = true;
    requestAnimationFrame((now) => {
      this.requested = false;
      if (!this.playing || !this.visible) return;
      // After a pause of the browser, playback continues where it stopped.
      const passed = this.last && now - this.last < 400 ? now - this.last : 0;
      this.last = now;
      const before = this.frameNow();
      this.clock = (this.clock + passed * this.scene.rate / 1000 * Number(this.speed.value)) % this.scene.frames;
      if (this.frameNow() !== before) this.draw();
      this.wake();
    });
  }

  seek(frame) {
    this.play(false);
    this.clock = (frame + this.scene.frames) % this.scene.frames;
    this.draw();
  }

  reset() {
    Object.assign(this, { yaw: this.scene.yaw, pitch: this.scene.pitch, zoom: 1 });
    this.draw();
  }

  key(event) {
    if (["SELECT", "BUTTON"].includes(event.target.tagName)) return;
    if (event.key === " ") this.play(!this.playing);
    else if (event.key === "ArrowRight") this.seek(this.frameNow() + 1);
    else if (event.key === "ArrowLeft") this.seek(this.frameNow() - 1);
    else return;
    event.preventDefault();
  }

  magnify(factor) {
    this.zoom = Math.max(0.3, Math.min(8, this.zoom * factor));
  }

  listen(panel) {
    const { canvas } = panel, pointers = new Map();
    const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    const at = (event) => { const box = canvas.getBoundingClientRect(); this.pointer = { panel, x: event.clientX - box.left, y: event.clientY - box.top }; };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      at(event);
      this.draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      const from = pointers.get(event.pointerId);
      if (from && pointers.size === 1) {
        this.yaw -= (event.clientX - from.clientX) * 0.01;
        this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + (event.clientY - from.clientY) * 0.01));
      }
      const before = pointers.size === 2 ? spread() : 0;
      if (from) pointers.set(event.pointerId, event);
      if (before) this.magnify(spread() / before);
      at(event);
      this.draw();
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => { this.pointer = null; this.draw(); });
    canvas.addEventListener("wheel", (event) => {
      if (!this.alone && !event.ctrlKey) return;
      event.preventDefault();
      this.magnify(Math.exp(-event.deltaY * 0.0015));
      this.draw();
    }, { passive: false });
  }
}

// Printing uses the light colours, also where the screen is dark.
addEventListener("beforeprint", () => { document.documentElement.dataset.print = "yes"; });
addEventListener("afterprint", () => { delete document.documentElement.dataset.print; });

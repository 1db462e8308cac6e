// One panel per surface; all lines share one. Panels are drawn when they come into sight.

const GL_LIMIT = 12; // browsers drop the oldest WebGL context at about 16
const webgl = Boolean(document.createElement("canvas").getContext("webgl"));
const SMALLEST = 80; // pixels; in less, as while a window is being resized, Plotly finds no room for its titles
const panels = [];

class Panel {
  constructor(surfaces) {
    this.surfaces = surfaces;
    this.lines = surfaces[0].dim === 1;
    this.camera = null;
    this.visible = false;
    this.zoomed = null; // range of alpha in the line chart
    this.drawn = null; // the size drawn at, null while there is no figure
    this.gl = false;
    this.hovered = null; // [surface, flat index]
    this.build();
  }

  build() {
    const label = this.lines && this.surfaces.length > 1 ? count(this.surfaces.length, "line") : this.surfaces[0].label;
    this.subtitle = element("p", { className: "subtitle" });
    this.plot = element("div", { className: "plot", role: "group" });
    this.key = element("p", { className: "key" });
    this.readout = element("div", { className: "readout", "aria-live": "polite" });
    this.label = label;
    const downloads = `Download ${shorten(label, 60)}`;
    this.downloads = element("div", { className: "downloads", role: "group", "aria-label": downloads },
      button("PNG", "Download this figure as PNG", () => savePicture(this, "png")),
      button("SVG", "Download this figure as SVG", () => savePicture(this, "svg")),
      button("CSV", "Download these values as CSV", () => saveValues(this)));
    this.node = element("article", { className: "panel" },
      element("header", {}, element("h2", { textContent: label, title: label }), this.downloads), this.subtitle,
      this.plot, this.key, this.readout);
    this.node.panel = this;
    keepWheelForPage(this.plot);
  }

  /** What is shown: one choice per surface; those that lack the metric or split have `missing`. */
  choices() {
    return this.surfaces.map((surface) => select(surface, state));
  }

  get size() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  figure(colors = themeColors(), size = this.size) {
    const shown = this.choices().filter((choice) => !choice.missing);
    if (this.lines) return figureLines(shown, colors, size, this.zoomed);
    return this.gl ? figure3d(shown[0], this.camera, colors, size) : figureFlat(shown[0], colors, size);
  }

  async draw() {
    const choices = this.choices();
    const empty = choices.every((choice) => choice.missing);
    const gl = !empty && state.view === "3d" && !this.lines && webgl && (this.gl || makeRoom());
    if (empty || gl !== this.gl || !this.drawn) this.release();
    this.gl = gl;
    this.describe(choices);
    if (empty) return this.plot.replaceChildren(element("p", { className: "notice", textContent: choices[0].missing }));
    if (Math.min(this.size.width, this.size.height) < SMALLEST) return;
    if (state.linked) this.camera = state.camera;
    const { data, layout } = this.figure();
    const listening = this.drawn !== null;
    this.drawn = this.size;
    await Plotly.react(this.plot, data, { ...layout, ...this.size }, { displayModeBar: false, scrollZoom: "gl3d",
      doubleClick: false, typesetMath: false });
    if (!listening) this.listen();
  }

  /** Give the figure's memory and its WebGL context back. */
  release() {
    if (!this.drawn) return this.plot.replaceChildren();
    const canvases = [...this.plot.querySelectorAll("canvas")];
    Plotly.purge(this.plot);
    for (const canvas of canvases) canvas.getContext("webgl")?.getExtension("WEBGL_lose_context")?.loseContext();
    this.plot.replaceChildren();
    this.drawn = null;
    this.gl = false;
  }

  listen() {
    this.plot.on("plotly_hover", (event) => this.hover(this.pointOf(event)));
    this.plot.on("plotly_unhover", () => this.hover(null));
    this.plot.on("plotly_click", (event) => {
      const point = this.pointOf(event);
      if (point) update({ pick: place(...point) });
    });
    this.plot.on("plotly_relayouting", (event) => this.turned(event["scene.camera"]));
    this.plot.on("plotly_relayout", (event) => this.moved(event));
    this.plot.on("plotly_doubleclick", () => this.zoom(null));
  }

  /** The surface and flat index that a Plotly event is about, or null. */
  pointOf(event) {
    const point = event.points?.find((one) => one.data.name === "surface" || one.data.meta !== undefined);
    if (!point) return null;
    const surface = page.surfaces[point.data.meta] ?? this.surfaces[0];
    const j = surface.dim === 1 ? 0 : nearest(surface.beta, point.y);
    return [surface, nearest(surface.alpha, point.x) * surface.beta.length + j];
  }

  hover(point) {
    this.hovered = point;
    this.describeReadout();
  }

  /** The user turned or zoomed the figure. */
  moved(event) {
    this.turned(event["scene.camera"]);
    const [x, y] = ["xaxis", "yaxis"].map((axis) => [event[`${axis}.range[0]`], event[`${axis}.range[1]`]]);
    if (x.every(Number.isFinite) && (this.lines || y.every(Number.isFinite))) this.zoom({ x, y });
  }

  turned(camera) {
    if (!camera) return;
    this.camera = camera;
    if (state.linked) update({ camera });
  }

  /** Lines zoom along alpha, each for itself; maps zoom together. */
  zoom(zoom) {
    if (!this.lines) return update({ zoom });
    this.zoomed = zoom?.x ?? null;
    return drawNow(this);
  }

  /** Look from where another panel looks; null = from where the page starts. */
  follow(camera) {
    if (this.camera === camera) return;
    this.camera = camera;
    if (this.gl) Plotly.relayout(this.plot, { "scene.camera": camera ?? firstCamera(this.size) });
  }

  describe(choices) {
    this.subtitle.textContent = subtitleOf(choices);
    const what = this.lines ? "lines" : { "3d": "3D surface", contour: "contour map", heatmap: "heat map" }[state.view];
    this.plot.setAttribute("aria-label", `${state.metric} as ${what}: ${shorten(this.label, 80)}`);
    this.describeKey(choices.filter((choice) => !choice.missing));
    this.describeReadout();
  }

  describeKey(choices) {
    this.key.replaceChildren();
    if (choices.length !== 1) return;
    const [choice] = choices;
    const { surface, values, metric } = choice;
    const found = census(choice);
    const at = (index) => {
      const [alpha, beta] = place(surface, index).map((one) => formatNumber(one, 2));
      return surface.dim === 2 ? `(${alpha}, ${beta})` : `α = ${alpha}`;
    };
    const add = (mark, text) => this.key.append(element("span", {}, element("i", { className: `mark ${mark}` }), text));
    if (surface.center) {
      const index = surface.center[0] * surface.beta.length + surface.center[1];
      add(this.lines ? "axis" : "centre", `centre ${formatValue(metric, values[index], metric.stderr?.[index])}`);
    }
    const best = extremum(choice);
    const name = metric.unit === "fraction" ? "maximum" : "minimum";
    if (best >= 0) add("best", `${name} ${formatValue(metric, values[best], metric.stderr?.[best])} at ${at(best)}`);
    if (found.diverged) add("diverged", `${count(found.diverged, "point")} diverged`);
    if (found.unknown) add("unknown", `${count(found.unknown, "point")} not computed yet`);
    if (found.computed + found.unknown < found.all) {
      add("computed", `${found.computed} of ${found.all} points computed, the rest interpolated`);
    }
    if (state.view === "3d" && !this.gl && !this.lines) {
      add("", webgl ? "shown flat: too many 3D views at once" : "shown flat: no WebGL here");
    }
  }

  describeReadout() {
    const choices = this.choices().filter((choice) => !choice.missing);
    const at = this.hovered ? place(...this.hovered) : state.pick; // in a chart of lines: of all of them
    const several = choices.length > 1;
    const lines = at ? choices.map((choice) => readoutLine(choice, indexAt(choice.surface, at), several)) : [];
    const hint = "Point at the figure to read a value; click to keep it.";
    this.readout.replaceChildren(...(at ? lines : [element("p", { className: "muted", textContent: hint })]));
  }
}

/** Mask, normalization, plane, examples and grid of a surface: what a reader must know to compare. */
function conditionsOf({ surface, plane, split }) {
  const examples = split ? `${split.name}, ${count(split.examples, "example")}` : "";
  return [...plane.notes, examples, gridOf(surface), surface.complete ? "" : "incomplete"].filter(Boolean).join(" · ");
}

/** The conditions, once where all lines share them. */
function subtitleOf(choices) {
  const conditions = choices.map(conditionsOf);
  const shared = new Set(conditions).size === 1;
  const each = choices.map(({ surface }, index) => `${surface.label}: ${conditions[index]}`);
  const bands = choices.some(({ surface, metric }) => surface.dim === 1 && metric?.stderr);
  return `${shared ? conditions[0] : each.join("; ")}${bands ? " · band: one standard error" : ""}`;
}

function readoutLine(choice, index, named) {
  const { parts, origin } = describe(choice, index);
  const [alpha, beta] = place(choice.surface, index);
  const field = (name, text) => element("span", {}, element("b", { textContent: name }), ` ${text}`);
  const coordinates = choice.surface.dim === 2
    ? [field("α", formatNumber(alpha, 4)), field("β", formatNumber(beta, 4))] : [field("α", formatNumber(alpha, 4))];
  const name = named ? element("span", { className: "name", textContent: choice.surface.label }) : null;
  const values = parts.map((part) => field(part.name, part.text));
  const source = element("span", { className: "muted", textContent: origin });
  return element("p", {}, name, ...coordinates, ...values, source);
}

/** Let the wheel scroll the page until the user has pressed the figure: then it zooms, until the pointer leaves. */
function keepWheelForPage(plot) {
  let held = false;
  plot.addEventListener("pointerdown", () => { held = true; });
  plot.addEventListener("pointerleave", () => { held = false; });
  const keep = (event) => { if (!held && !event.ctrlKey) event.stopPropagation(); };
  plot.addEventListener("wheel", keep, { capture: true });
}

/** Whether one more WebGL context may be made; gives back one that is out of sight if need be. */
function makeRoom() {
  const live = panels.filter((panel) => panel.gl);
  if (live.length < GL_LIMIT) return true;
  const hidden = live.find((panel) => !panel.visible);
  hidden?.release();
  return Boolean(hidden);
}

let busy = 0;

/** Draw one panel; `data-busy` of the page counts the drawings under way. */
async function drawNow(panel) {
  panel.stale = false;
  document.documentElement.dataset.busy = busy += 1;
  await panel.draw();
  document.documentElement.dataset.busy = busy -= 1;
}

async function drawStale() {
  for (const panel of panels) if (panel.visible && panel.stale) await drawNow(panel);
}

let scheduled = false;

/** Draw what is in sight and leave the rest for when it comes into sight; at most once a frame. */
function scheduleDraw(outdated = panels) {
  for (const panel of outdated) panel.stale = true;
  if (scheduled) return;
  scheduled = true;
  document.documentElement.dataset.busy = busy += 1;
  requestAnimationFrame(async () => {
    scheduled = false;
    await drawStale();
    document.documentElement.dataset.busy = busy -= 1;
  });
}

function startPanels() {
  const flat = page.surfaces.filter((surface) => surface.dim === 2);
  const lines = page.surfaces.filter((surface) => surface.dim === 1);
  panels.push(...flat.map((surface) => new Panel([surface])), ...(lines.length ? [new Panel(lines)] : []));
  const grid = document.getElementById("panels");
  grid.dataset.count = panels.length;
  grid.append(...panels.map((panel) => panel.node));
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.panel.visible = isIntersecting;
      target.panel.stale ||= !target.panel.drawn;
    }
    drawStale().then(() => { document.getElementById("status").hidden = true; });
  }, { rootMargin: panels.length > MANY_PANELS ? "150px 0px" : "1500px 0px" });
  for (const panel of panels) sight.observe(panel.node);
  const resized = new ResizeObserver((entries) => {
    for (const { panel } of entries.map((entry) => entry.target.parentElement)) {
      const { width, height } = panel.size;
      if (panel.drawn?.width !== width || panel.drawn.height !== height) {
        scheduleDraw([panel]);
      }
    }
  });
  for (const panel of panels) resized.observe(panel.plot);
}

const REDRAWN_BY = ["view", "metric", "scale", "split", "plane", "limits", "clip", "computed", "theme", "pick", "zoom"];

listeners.push((changed) => {
  if (changed.has("camera") || (changed.has("linked") && state.linked)) {
    for (const panel of panels) if (state.linked) panel.follow(state.camera);
  }
  if (REDRAWN_BY.some((key) => changed.has(key))) scheduleDraw();
});

// One panel: its figure, in 3D or flat, what stands around it, and what the pointer does.

import { select } from "./compare.js";
import { census, extremum, indexAt, nearest, place } from "./data.js";
import { element, keepWheelForPage, probeWebgl } from "./dom.js";
import { downloadMenu } from "./export.js";
import { figure3d, firstCamera } from "./figure3d.js";
import { figureFlat } from "./figureflat.js";
import { figureLines } from "./figurelines.js";
import { count, displayName, formatNumber, formatValue, shorten } from "./format.js";
import { onKey } from "./keys.js";
import { pathsOf, themeColors } from "./look.js";
import { page } from "./page.js";
import { pathInWords, readoutLine, subtitleOf, tipLines } from "./readout.js";
import { state, update } from "./state.js";

const webgl = probeWebgl();
export const SMALLEST = 80; // pixels; in less, as while a window is being resized, Plotly finds no room for its titles
const POINTED = ["surface", "isolines", "cut"]; // traces that a pointer reads

/** A place for one of a panel's two drawings. Kept while hidden: a new WebGL context costs most of a redraw's time. */
function stage(className) {
  const node = element("div", { className, role: "group", tabIndex: 0, "aria-describedby": "keys" });
  node.drawnAt = null;
  return node;
}

/** Whether two cameras look from, or at, different places. */
function apart(one, other) {
  return ["eye", "center"].some((what) => ["x", "y", "z"].some((axis) =>
    Math.abs(one[what][axis] - other[what][axis]) > 1e-9));
}

export class Panel {
  /** `deck` has what concerns all panels: `draw(panel)`, `makeRoom()`, `reset()`. */
  constructor(surfaces, deck) {
    this.surfaces = surfaces;
    this.deck = deck;
    this.lines = surfaces[0].dim === 1;
    this.camera = state.camera;
    this.visible = false;
    this.zoomed = this.lines ? null : state.zoom; // range of alpha in a line chart, {x, y} in a map
    this.gl = false; // whether the 3D stage is the one shown
    this.hovered = null; // [surface, flat index]
    this.telling = 0; // how many cameras Plotly was told and hasn't taken yet; what it says of them is no news
    this.coasting = false;
    this.rest = 0; // frames since the mouse last turned the figure
    this.build();
  }

  build() {
    this.heading = element("h2");
    this.subtitle = element("p", { className: "subtitle" });
    this.stages = { flat: stage("plot"), gl: stage("spare") };
    this.tip = element("div", { className: "tip", hidden: true });
    this.figureBox = element("div", { className: "figure" }, this.stages.flat, this.stages.gl, this.tip);
    this.figureBox.panel = this;
    this.figureBox.addEventListener("keydown", (event) => onKey(this, event));
    this.figureBox.addEventListener("pointermove", (event) => { this.pointer = [event.clientX, event.clientY]; });
    this.key = element("p", { className: "key" });
    this.readout = element("div", { className: "readout", "aria-live": "polite" });
    this.downloads = downloadMenu(this);
    this.node = element("article", { className: "panel" },
      element("header", {}, this.heading, this.downloads), this.subtitle, this.figureBox, this.key, this.readout);
    this.name();
    this.node.panel = this;
    keepWheelForPage(this.figureBox);
  }

  /** What is shown: one choice per surface; those that lack the metric or split have `missing`. */
  choices() {
    return this.surfaces.map((surface) => select(surface, state));
  }

  get label() {
    return this.lines && this.surfaces.length > 1 ? count(this.surfaces.length, "line") : this.surfaces[0].label;
  }

  /** Say whose panel it is; a surface that is still being computed may get another label. */
  name() {
    this.heading.textContent = this.heading.title = this.label;
    this.downloads.name();
  }

  /** The stage that is shown. */
  get plot() {
    return this.gl ? this.stages.gl : this.stages.flat;
  }

  /** The size drawn at, null while there is no figure. */
  get drawn() {
    return this.plot.drawnAt;
  }

  get holdsContext() {
    return this.stages.gl.drawnAt !== null;
  }

  get size() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  figure(colors = themeColors(), size = this.size) {
    const shown = this.choices().filter((choice) => !choice.missing);
    if (this.lines) return figureLines(shown, colors, size, this.zoomed);
    return this.gl ? figure3d(shown[0], this.camera, colors, size) : figureFlat(shown[0], colors, size, this.zoomed);
  }

  async draw() {
    const choices = this.choices();
    const empty = choices.every((choice) => choice.missing);
    const gl = !empty && state.view === "3d" && !this.lines && webgl && (this.holdsContext || this.deck.makeRoom());
    if (empty) this.release();
    this.show(Boolean(gl));
    this.describe(choices);
    if (empty) return this.plot.replaceChildren(element("p", { className: "notice", textContent: choices[0].missing }));
    if (Math.min(this.size.width, this.size.height) < SMALLEST) return;
    if (state.linked) this.join();
    const { data, layout } = this.figure();
    const listening = this.drawn !== null;
    if (!listening) this.plot.replaceChildren();
    this.plot.drawnAt = this.size;
    await Plotly.react(this.plot, data, { ...layout, ...this.size }, { displayModeBar: false, scrollZoom: "gl3d",
      doubleClick: false, typesetMath: false, plotGlPixelRatio: webgl?.software ? 1 : 2 });
    if (!listening) this.listen();
  }

  /** Show the 3D stage or the flat one; the other is kept. */
  show(gl) {
    const before = this.plot;
    this.gl = gl;
    if (before === this.plot) return;
    before.className = before.className.replace("plot", "spare");
    this.plot.className = this.plot.className.replace("spare", "plot");
    if (before === document.activeElement) this.plot.focus({ preventScroll: true });
  }

  /** Give the memory of figures and the WebGL context back. */
  release(stages = Object.values(this.stages)) {
    for (const one of stages) {
      const canvases = [...one.querySelectorAll("canvas")];
      if (one.drawnAt) Plotly.purge(one);
      for (const canvas of canvases) canvas.getContext("webgl")?.getExtension("WEBGL_lose_context")?.loseContext();
      one.replaceChildren();
      one.drawnAt = null;
    }
  }

  listen() {
    this.plot.on("plotly_hover", (event) => this.hover(this.pointOf(event), event));
    this.plot.on("plotly_unhover", () => this.hover(null));
    this.plot.on("plotly_click", (event) => {
      const point = this.pointOf(event);
      if (point) update({ pick: place(...point) });
    });
    this.plot.on("plotly_relayouting", (event) => {
      this.turned(event["scene.camera"]);
      if (event["scene.camera"]) this.coast();
    });
    this.plot.on("plotly_relayout", (event) => this.moved(event));
    this.plot.on("plotly_doubleclick", () => this.zoom(null));
  }

  /** The surface and flat index that a Plotly event is about, or null. */
  pointOf(event) {
    const point = event.points?.find((one) => POINTED.includes(one.data.name) || one.data.meta !== undefined);
    if (!point) return null;
    const surface = page.surfaces[point.data.meta] ?? this.surfaces[0];
    const j = surface.dim === 1 ? 0 : nearest(surface.beta, point.y);
    return [surface, nearest(surface.alpha, point.x) * surface.beta.length + j];
  }

  hover(point, event = null) {
    this.hovered = point;
    this.describeReadout();
    const step = event?.points?.find((one) => one.data.name === "path");
    if (step && !this.lines) this.showTip([step.customdata]);
    else this.showTip(point && !this.lines ? tipLines(select(point[0], state), point[1]) : []);
  }

  /** Words beside the pointer, inside the figure. */
  showTip(lines) {
    this.tip.hidden = !lines.length || !this.pointer;
    if (this.tip.hidden) return;
    this.tip.replaceChildren(...lines.map((line) => element("div", { textContent: line })));
    const box = this.plot.getBoundingClientRect();
    const [x, y] = [this.pointer[0] - box.left, this.pointer[1] - box.top];
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    this.tip.style.left = `${x + 16 + width > box.width ? Math.max(0, x - 12 - width) : x + 16}px`;
    this.tip.style.top = `${Math.max(0, Math.min(box.height - height, y + 14))}px`;
  }

  /** The user turned or zoomed the figure. */
  moved(event) {
    if (!this.telling) this.turned(event["scene.camera"]);
    if (event["scene.camera"]) this.coast();
    const [x, y] = ["xaxis", "yaxis"].map((axis) => [event[`${axis}.range[0]`], event[`${axis}.range[1]`]]);
    if (x.every(Number.isFinite) && (this.lines || y.every(Number.isFinite))) this.zoom({ x, y });
  }

  turned(camera) {
    if (!camera) return;
    this.camera = camera;
    if (state.linked) update({ camera });
  }

  /** Plotly carries the last movement on until its next frame, far where frames are slow, and tells nobody where the
   * camera came to rest: what the page keeps, links and redraws is that. */
  async coast() {
    this.rest = 0;
    if (this.coasting) return;
    this.coasting = true;
    try {
      for (; this.rest < 10; this.rest += 1) {
        await new Promise(requestAnimationFrame);
        const scene = this.plot._fullLayout?.scene?._scene;
        if (!this.gl || !scene?.glplot || !this.camera) break;
        const camera = scene.getCamera();
        if (this.rest < 2 || !apart(camera, this.camera)) continue;
        this.turned(camera);
        await this.tell(camera);
      }
    } finally {
      this.coasting = false;
    }
  }

  /** Lines zoom along alpha, for themselves; maps together where they are linked. */
  zoom(zoom) {
    if (!this.lines && state.linked) return update({ zoom });
    this.zoomed = this.lines ? zoom?.x ?? null : zoom;
    return this.deck.draw(this);
  }

  /** Take camera and zoom that all share. */
  join() {
    this.camera = state.camera;
    if (!this.lines) this.zoomed = state.zoom;
  }

  /** Look from where another panel looks; null = from where the page starts. */
  follow(camera) {
    if (this.camera === camera) return;
    this.camera = camera;
    if (this.gl) this.tell(camera ?? firstCamera(this.size));
  }

  async tell(camera) {
    this.telling += 1;
    try {
      await Plotly.relayout(this.plot, { "scene.camera": camera });
    } finally {
      this.telling -= 1;
    }
  }

  describe(choices) {
    this.subtitle.textContent = subtitleOf(choices);
    const what = this.lines ? "lines" : { "3d": "3D surface", contour: "contour map", heatmap: "heat map" }[state.view];
    this.plot.setAttribute("aria-label", `${displayName(state.metric)} as ${what}: ${shorten(this.label, 80)}`);
    this.downloads.sync(choices);
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
    const add = (kind, text, color = "") => {
      const mark = element("i", { className: `mark ${kind}` });
      mark.style.background = color; // "" leaves it to the style sheet
      this.key.append(element("span", {}, mark, text));
    };
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
    for (const path of pathsOf(choice)) add("path", pathInWords(surface, path), path.color);
    if (choice.base) add("", `difference to ${shorten(choice.base.surface.label, 60)}`);
    else if (surface === page.surfaces[state.reference]) add("", "the reference: its own values");
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

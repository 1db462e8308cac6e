// The two cuts through the picked point, of all surfaces, as two small charts below the figures.

import { LINE_COLORS } from "./colors.js";
import { indicesAt, valuesOf, withValues } from "./data.js";
import { button, element } from "./dom.js";
import { figureLines, lineColor, lineDash } from "./figurelines.js";
import { count, formatNumber, metricTitle, shorten } from "./format.js";
import { limitsFor, shownEverywhere } from "./limits.js";
import { MARKS, themeColors } from "./look.js";
import { page } from "./page.js";
import { SMALLEST } from "./panel.js";
import { drawAfterPanels, scheduleDraw } from "./panels.js";
import { extent } from "./scales.js";
import { state, update } from "./state.js";

/** A line through a choice's surface at the picked point, along alpha (0) or beta (1), as a choice of its own. */
function cutOf(choice, axis) {
  const { surface, plane, metric, values } = choice;
  const at = indicesAt(surface, state.pick);
  const width = surface.beta.length;
  const coordinates = [surface.alpha, surface.beta][axis];
  const indices = coordinates.map((_, k) => (axis === 0 ? k * width + at[1] : at[0] * width + k));
  const line = (list) => (list ? indices.map((index) => list[index]) : null);
  const sliced = (one) => {
    const cut = { ...one, stderr: line(one.stderr), computed: line(one.computed ?? plane.computed).join("") };
    return withValues(cut, Float64Array.from(indices, (index) => valuesOf(one)[index]));
  };
  const shown = sliced(metric);
  const base = choice.base ? { ...choice.base, metric: sliced(choice.base.metric) } : undefined;
  return { ...choice, base, metric: shown, values: Float64Array.from(indices, (index) => values[index]),
    split: { ...choice.split, metrics: choice.split.metrics.map((one) => (one === metric ? shown : sliced(one))) },
    plane: { ...plane, axes: [plane.axes[axis]], path: null },
    surface: { label: surface.label, dim: 1, alpha: coordinates, beta: [0],
      center: surface.center ? [surface.center[axis], 0] : null },
    pick: [coordinates[at[axis]], 0], symbol: "αβ"[axis], number: page.surfaces.indexOf(surface) };
}

/** Both cuts of every surface that has them, as two lists. */
function cutChoices() {
  const flat = shownEverywhere().filter(({ surface, base }) => surface.dim === 2 && (base || state.reference === ""));
  return state.pick ? [0, 1].map((axis) => flat.map((choice) => cutOf(choice, axis))) : [[], []];
}

/** Plotly's figure of one list of cuts. */
function figureCut(cuts, colors, size) {
  const limits = limitsFor(extent(cuts), false, cuts[0].base ? 1 : undefined); // a clipped difference has no lower end
  const { data, layout } = figureLines(cuts, colors, size, null, limits);
  const [x] = cuts[0].pick;
  const line = { type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1,
    line: { color: MARKS.pick.color, width: 1.5, dash: "dash" } };
  const margin = { l: 64, r: 12, t: 8, b: 42 };
  return { data, layout: { ...layout, shapes: [line], showlegend: false, margin,
    yaxis: { ...layout.yaxis, title: { ...layout.yaxis.title, font: { size: 12 } } } } };
}

const cuts = { section: null, plots: [], titles: [], legend: null, visible: false };

export function startCuts() {
  cuts.section = document.getElementById("cuts");
  cuts.plots = [0, 1].map((axis) => element("div", { className: "cut", role: "img", id: `cut-${axis}` }));
  cuts.titles = [0, 1].map(() => element("h3"));
  cuts.legend = element("p", { className: "key" });
  const figures = [0, 1].map((axis) => element("div", {}, cuts.titles[axis], cuts.plots[axis]));
  const heading = element("h2", { id: "cuts-title", textContent: "Cuts through the point" });
  const close = button("Close", "Clear the point and its cuts", () => update({ pick: null }));
  cuts.section.append(element("div", { className: "section-head" }, heading, close),
    element("div", { className: "cut-pair" }, ...figures), cuts.legend);
  new IntersectionObserver(([entry]) => {
    cuts.visible = entry.isIntersecting;
    scheduleDraw([]);
  }, { rootMargin: "200px 0px" }).observe(cuts.section);
  drawAfterPanels.push(drawCuts);
  let width = 0;
  new ResizeObserver(() => {
    if (cuts.plots[0].clientWidth === width) return;
    width = cuts.plots[0].clientWidth;
    scheduleDraw([]);
  }).observe(cuts.plots[0]);
}

/** Show, hide and draw the cuts; drawn only when in sight. */
async function drawCuts() {
  const lists = cutChoices();
  if (!cuts.section) return;
  cuts.section.hidden = !lists[0].length;
  if (cuts.section.hidden || !cuts.visible || !globalThis.Plotly) return;
  const colors = themeColors();
  describeCuts(lists, LINE_COLORS[colors.name]);
  for (const [axis, plot] of cuts.plots.entries()) {
    const size = { width: plot.clientWidth, height: plot.clientHeight };
    if (size.width < SMALLEST) continue;
    const { data, layout } = figureCut(lists[axis], colors, size);
    const options = { displayModeBar: false, doubleClick: false, typesetMath: false };
    await Plotly.react(plot, data, { ...layout, ...size }, options);
  }
}

/** Where the cuts run, and whose they are. */
function describeCuts(lists, palette) {
  lists.forEach((list, axis) => {
    const { surface, symbol } = list[0];
    const other = "βα"[axis];
    const fixed = lists[1 - axis][0].pick[0];
    cuts.titles[axis].textContent = `along ${symbol}, at ${other} = ${formatNumber(fixed, 3)}`;
    cuts.plots[axis].setAttribute("aria-label", `${metricTitle(list[0].metric)} along ${symbol} through the point, ${
      list.length > 1 ? count(list.length, "surface") : shorten(surface.label, 80)}`);
  });
  cuts.legend.replaceChildren(...lists[0].map(({ surface }, order) => {
    const swatch = element("i", { className: "swatch" });
    const look = { solid: "solid", dash: "dashed", dot: "dotted", dashdot: "double" }[lineDash(order, palette)];
    swatch.style.borderTop = `3px ${look} ${lineColor(order, palette)}`;
    return element("span", { title: surface.label }, swatch, shorten(surface.label, 48));
  }));
  if (lists[0].some(({ metric }) => metric.stderr)) {
    cuts.legend.append(element("span", { textContent: "band: one standard error" }));
  }
}

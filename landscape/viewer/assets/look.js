// What all figures share: colours, marks, colour bars, the words for one point.

import { PATHS } from "./colors.js";
import { census, extremum, indexAt, isComputed, valuesOf } from "./data.js";
import { displayName, formatValue, metricTitle, plain, shorten } from "./format.js";
import { ticksFor } from "./scales.js";
import { state } from "./state.js";

export const LINE_DASHES = ["solid", "dash", "dot", "dashdot"];
export const FONT = 'ui-sans-serif, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
export const NARROW = 480; // pixels: less room for titles
export const MARKS = {
  centre: { symbol: "circle", color: "#ffffff", size: 10 },
  best: { symbol: "diamond", color: "#ff4d6d", size: 15 },
  pick: { symbol: "circle-open", color: "#ff9d00", size: 14 },
};

/** Colours of the current theme, from the style sheet. */
export function themeColors() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["ink", "muted", "grid", "card", "wall", "diverged", "unknown"];
  const colors = Object.fromEntries(names.map((name) => [name, read(name)]));
  return { ...colors, name: document.documentElement.dataset.theme };
}

/** The read-out of one point, without its coordinates. */
export function describe(choice, index) {
  const { split, metric, base } = choice;
  const part = (one, name = displayName(one.name)) =>
    ({ name, text: formatValue(one, valuesOf(one)[index], one.stderr ? one.stderr[index] : null) });
  const own = split.metrics.find((one) => one.name === metric.name);
  const others = split.metrics.filter((one) => one !== own).map((one) => part(one));
  const parts = base
    ? [part(metric, `Δ ${displayName(metric.name)}`), part(own),
      part(base.metric, `reference ${displayName(metric.name)}`)]
    : [part(own), ...others];
  // In the valley the error of the logarithm says more than that of the whole range.
  const near = metric.log_error > 0 ? Math.abs(choice.values[index]) * Math.expm1(metric.log_error) : Infinity;
  const bound = metric.error > 0
    ? `, error about ${formatValue(metric, base ? metric.error : Math.min(metric.error, near))}` : "";
  const origin = isComputed(choice, index) ? "computed" : `interpolated${bound}`;
  return { parts, origin: Number.isNaN(choice.values[index]) ? "not known" : origin };
}

export function colorbar(limits, metric, colors) {
  return {
    title: { text: plain(shorten(metricTitle(metric), 40)) + (limits.log ? ", log scale" : ""), side: "right",
      font: { size: 12 } },
    thickness: 12, outlinewidth: 0, tickfont: { size: 11, color: colors.muted }, ...ticksFor(limits, metric),
  };
}

/** Points worth a mark: [kind, flat index], the picked one last, on top. */
export function marked(choice) {
  const { surface } = choice;
  const marks = [["best", extremum(choice)]];
  if (surface.center) marks.push(["centre", surface.center[0] * surface.beta.length + surface.center[1]]);
  const pick = choice.pick ?? state.pick; // a cut has its own
  if (pick) marks.push(["pick", indexAt(surface, pick)]);
  return marks.filter(([, index]) => index >= 0);
}

/** The computed points among interpolated ones; none where no point was interpolated. */
export function computedIndices(choice) {
  const found = census(choice);
  if (!state.computed || found.computed + found.unknown >= found.all) return [];
  return [...choice.values.keys()].filter((index) => isComputed(choice, index));
}

/** The path to draw, or null: the plane has one and it isn't switched off. */
const pathOf = ({ plane }) => (state.path && plane.path?.alpha.length ? plane.path : null);

/** The paths to draw, one for each training, with their names and colours. */
export function pathsOf(choice) {
  const path = pathOf(choice);
  if (!path) return [];
  let start = 0;
  return path.parts.map(([name, size], order) => {
    const [from, to] = [start, start + size];
    start = to;
    const [alpha, beta, labels] = [path.alpha, path.beta, path.labels].map((values) => values.slice(from, to));
    return { name, color: PATHS[order % PATHS.length], alpha, beta, labels };
  });
}

export const baseLayout = (colors) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
  font: { family: FONT, size: 12, color: colors.ink },
});

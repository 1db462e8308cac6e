// One surface as contour map or heat map, as Plotly's {data, layout}.

import { colorscale } from "./colors.js";
import { indexAt, place, proportion, span } from "./data.js";
import { plain, shorten } from "./format.js";
import { limitsOf } from "./limits.js";
import { baseLayout, colorbar, computedIndices, marked, MARKS, NARROW, pathsOf } from "./look.js";
import { onScale } from "./scales.js";
import { state } from "./state.js";

const LEVELS = 16; // bands between lines of equal value

/** Rows over beta of something per grid point, as Plotly wants a matrix. */
function rows(surface, at) {
  const width = surface.beta.length;
  return surface.beta.map((_, j) => surface.alpha.map((_, i) => at(i * width + j)));
}

export function figureFlat(choice, colors, size, zoom = null) {
  const limits = limitsOf([choice]);
  const { surface, metric, values } = choice;
  const [from, to] = [onScale(limits, limits.low), onScale(limits, limits.high)];
  const row = surface.alpha.length < 2 || surface.beta.length < 2; // a row of points has no contours
  const main = { type: row ? "heatmap" : contourOr("heatmap"), name: "surface", x: surface.alpha, y: surface.beta,
    z: rows(surface, (index) => (Number.isFinite(values[index]) ? onScale(limits, values[index]) : null)),
    zmin: from, zmax: to, colorscale: colorscale(limits), hoverinfo: "none",
    colorbar: { ...colorbar(limits, metric, colors), len: 1, y: 0.5 } };
  if (main.type === "contour") {
    Object.assign(main, { connectgaps: false, autocontour: false,
      line: { color: limits.diverging ? "rgba(40,48,58,0.4)" : "rgba(255,255,255,0.55)", width: 0.8 },
      contours: { coloring: "heatmap", start: from, end: to, size: (to - from) / LEVELS } });
  }
  const data = values.every(Number.isFinite) ? [main] : [holes(choice, colors), main];
  data.push(...cutTraces(choice), ...pathTraces(choice), ...pointTraces(choice));
  return { data, layout: flatLayout(choice, colors, size, zoom) };
}

const contourOr = (other) => (state.view === "heatmap" ? other : "contour"); // what is too much in 3D, too

const holes = ({ surface, values }, colors) => ({
  type: "heatmap", name: "holes", x: surface.alpha, y: surface.beta, hoverinfo: "skip",
  z: rows(surface, (index) => (Number.isFinite(values[index]) ? null : Number(values[index] === Infinity))),
  zmin: 0, zmax: 1, colorscale: [[0, colors.unknown], [1, colors.diverged]], showscale: false,
});

/** Computed points and marks. */
function pointTraces(choice) {
  const { surface } = choice;
  const traces = [];
  const computed = computedIndices(choice);
  if (computed.length) {
    traces.push(dots("computed", computed.map((index) => place(surface, index)),
      { color: "#ffffff", size: 4, line: { color: "#14181d", width: 0.8 } }));
  }
  for (const [kind, index] of marked(choice)) {
    const { symbol, color, size } = MARKS[kind];
    const line = kind === "pick" ? { color, width: 3 } : { color: "#14181d", width: 1.2 };
    traces.push(dots(kind, [place(surface, index)], { symbol, color, size, line }));
  }
  return traces;
}

/** Where the two cuts run. */
function cutTraces({ surface }) {
  if (!state.pick) return [];
  const [alpha, beta] = place(surface, indexAt(surface, state.pick));
  const line = { color: MARKS.pick.color, width: 1.3, dash: "dash" };
  const cut = (x, y) => ({ type: "scatter", mode: "lines", name: "cut", hoverinfo: "skip", x, y, line });
  return [cut(edges(surface.alpha), [beta, beta]), cut([alpha, alpha], edges(surface.beta))];
}

/** The networks projected onto the plane, in order; the last one larger. */
function pathTraces(choice) {
  return pathsOf(choice).flatMap((path) => {
    const sizes = path.alpha.map((_, index) => (index === path.alpha.length - 1 ? 10 : 6));
    const trace = (name, mode, color, width) => ({ type: "scatter", mode, name, hoverinfo: "skip",
      line: { color, width }, x: path.alpha, y: path.beta });
    return [trace("path outline", "lines", "#14181d", 4.5), // without it the line drowns in some of the maps' colours
      { ...trace("path", "lines+markers", path.color, 2.2), hoverinfo: "none", customdata: path.labels,
        marker: { color: path.color, size: sizes, line: { color: "#ffffff", width: 1 } } }];
  });
}

const dots = (name, points, marker) => ({
  type: "scatter", mode: "markers", name, hoverinfo: "skip", marker,
  x: points.map((point) => point[0]), y: points.map((point) => point[1]),
});

function flatLayout(choice, colors, size, zoom) {
  const { surface } = choice;
  const axis = { gridcolor: colors.grid, zeroline: false, ticks: "outside", tickcolor: colors.grid, nticks: 7,
    tickfont: { size: 11, color: colors.muted }, constrain: "domain" };
  const [x, y] = choice.plane.axes.map((text) => ({ text: plain(shorten(text, 48)), font: { size: 12 }, standoff: 8 }));
  return { ...baseLayout(colors), hovermode: "closest", dragmode: "zoom", margin: margins(surface, size),
    xaxis: { ...axis, title: x, range: zoom?.x ?? edges(surface.alpha) },
    yaxis: { ...axis, title: y, range: zoom?.y ?? edges(surface.beta) } };
}

/** Range of an axis: whole cells in the heat map, the outermost points in the contour map. */
export function edges(coordinates) {
  if (coordinates.length < 2) return [coordinates[0] - 0.5, coordinates[0] + 0.5];
  const half = contourOr("heatmap") === "heatmap" ? span(coordinates) / (2 * (coordinates.length - 1)) : 0;
  return [coordinates[0] - half, coordinates.at(-1) + half];
}

/** Margins that give the axes their true proportions, centred, with the colour bar close by. */
function margins(surface, { width, height }) {
  const margin = width < NARROW ? { l: 48, r: 74, t: 8, b: 44 } : { l: 58, r: 92, t: 12, b: 50 };
  const ratio = proportion(surface);
  const [inner, outer] = [width - margin.l - margin.r, height - margin.t - margin.b];
  const spare = [inner - outer / ratio, outer - inner * ratio];
  if (spare[0] > 0) return { ...margin, l: margin.l + spare[0] / 2, r: margin.r + spare[0] / 2 };
  return { ...margin, t: margin.t + spare[1] / 2, b: margin.b + spare[1] / 2 };
}

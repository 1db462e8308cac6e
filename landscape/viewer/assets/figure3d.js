// One surface in three dimensions, as Plotly's {data, layout}. A mesh: Plotly's own surface trace refines every
// grid to 128 points a side, twenty times the triangles, which without a GPU takes a second to draw.

import { colorscale, VIRIDIS } from "./colors.js";
import { ends, finiteOr, indicesAt, place } from "./data.js";
import { plain, shorten } from "./format.js";
import { isolines } from "./isolines.js";
import { limitsOf } from "./limits.js";
import { baseLayout, colorbar, computedIndices, marked, MARKS, NARROW, pathsOf } from "./look.js";
import { aspect, densely, heightAt, trianglesOf, verticesOf } from "./mesh.js";
import { onScale, ticksFor } from "./scales.js";
import { CAMERA, state } from "./state.js";

export function figure3d(choice, camera, colors, size) {
  const limits = limitsOf([choice]);
  const { surface, metric, values } = choice;
  const [from, to] = [onScale(limits, limits.low), onScale(limits, limits.high)];
  const heights = Array.from(values, (value) => onScale(limits, value));
  const places = arrange(size);
  const bar = { ...colorbar(limits, metric, colors), x: places.bar, xanchor: "left", len: 0.78, xpad: 4 };
  const color = { cmin: from, cmax: to, colorscale: colorscale(limits), colorbar: bar, showscale: true };
  const z = heights.map((height) => (Number.isFinite(height) ? height : from));
  const row = surface.alpha.length < 2 || surface.beta.length < 2;
  const data = [
    row ? rowTrace(surface, heights, color)
      : { type: "mesh3d", name: "surface", ...verticesOf(surface), ...trianglesOf(surface, values), z, intensity: z,
        ...color, hoverinfo: "none",
        lighting: { ambient: 0.72, diffuse: 0.55, specular: 0.06, roughness: 0.85, fresnel: 0.05 } },
    { ...line3d("isolines", isolines(surface, heights, from, to, aspect(surface)), ISOLINE, 2),
      hoverinfo: "none" },
    ...markTraces(choice, heights, { from, to }, colors),
  ];
  return { data, layout: { ...baseLayout(colors), scene: scene(choice, limits, camera, colors, size),
    margin: { l: 0, r: 0, t: 0, b: 0 } } };
}

const ISOLINE = "#bccdd6";

/** A grid of one row has no area: its points, joined. */
const rowTrace = (surface, heights, color) => ({
  ...line3d("surface", { ...verticesOf(surface), z: heights.map(finiteOr(null)) }, VIRIDIS[3], 4),
  mode: "lines+markers", hoverinfo: "none", marker: { size: 4, color: heights.map(finiteOr(null)), ...color },
});

/** What lies on the surface: computed and diverged points, the cuts, the path, the pins. */
function markTraces(choice, heights, { from, to }, colors) {
  const { surface, values } = choice;
  const top = (index) => Math.min(heights[index], to);
  const at = (index, lift = 0) => [...place(surface, index), top(index) + lift * (to - from)];
  const traces = [];
  const computed = computedIndices(choice).filter((index) => Number.isFinite(values[index]) && heights[index] < to);
  if (computed.length) traces.push(dots3d("computed", computed.map((index) => at(index, 0.006)), colors.ink, 1.6));
  const diverged = [...values.keys()].filter((index) => values[index] === Infinity);
  if (diverged.length) {
    traces.push(dots3d("diverged", diverged.map((index) => [...place(surface, index), to]), colors.diverged, 3));
  }
  traces.push(...cutTraces3d(choice, heights, to, 0.004 * (to - from)),
    ...pathTraces3d(choice, heights, to, 0.01 * (to - from)));
  marked(choice).forEach(([kind, index], order) => {
    if (Number.isFinite(values[index])) traces.push(pin(kind, at(index), at(index, 0.08 + 0.07 * order)));
  });
  return traces;
}

/** The two cuts through the picked point, drawn on the surface. */
function cutTraces3d({ surface }, heights, to, lift) {
  if (!state.pick) return [];
  const [i, j] = indicesAt(surface, state.pick);
  const width = surface.beta.length;
  const along = [surface.alpha.map((_, m) => m * width + j), surface.beta.map((_, n) => i * width + n)];
  return along.map((indices) => line3d("cut", columns(indices.map((index) =>
    [...place(surface, index), heights[index] <= to ? heights[index] + lift : null])), MARKS.pick.color, 4));
}

/** The path lying on the surface; parts outside the grid or above the clip are left out. */
function pathTraces3d(choice, heights, to, lift) {
  const { surface } = choice;
  const raised = ([alpha, beta]) => {
    const height = heightAt(surface, heights, [alpha, beta]);
    return [alpha, beta, height <= to ? height + lift : null];
  };
  return pathsOf(choice).flatMap((path) => {
    const places = path.alpha.map((alpha, index) => [alpha, path.beta[index]]);
    const line = line3d("path line", columns(densely(surface, places).map(raised)), path.color, 5);
    const points = dots3d("path", places.map(raised), path.color, 3.6, { line: { color: "#14181d", width: 1 } });
    return [line, { ...points, hoverinfo: "none", customdata: path.labels }];
  });
}

const columns = (points) =>
  ({ x: points.map((point) => point[0]), y: points.map((point) => point[1]), z: points.map((point) => point[2]) });

const dots3d = (name, points, color, size, marker = {}) => ({
  type: "scatter3d", mode: "markers", name, hoverinfo: "skip", ...columns(points), marker: { color, size, ...marker },
});

const line3d = (name, points, color, width) => ({
  type: "scatter3d", mode: "lines", name, hoverinfo: "skip", ...points, line: { color, width },
});

/** A mark on a stem: on the surface itself half of it would be buried. */
const pin = (name, [x, y, foot], [, , head]) => ({
  type: "scatter3d", mode: "lines+markers", name, hoverinfo: "skip", x: [x, x], y: [y, y], z: [foot, head],
  line: { color: MARKS[name].color, width: 4 },
  marker: { color: MARKS[name].color, size: [0.1, MARKS[name].size * 0.62], line: { color: "#14181d", width: 1 },
    symbol: name === "pick" ? "circle" : MARKS[name].symbol, opacity: 1 },
});

function scene(choice, limits, camera, colors, size) {
  const { surface, metric } = choice;
  const [from, to] = [onScale(limits, limits.low), onScale(limits, limits.high)];
  const ticks = ticksFor(limits, metric);
  const clear = ticks.tickvals.map((value) => value > from + 0.05 * (to - from)); // of the corner's other labels
  for (const key of ["tickvals", "ticktext"]) ticks[key] = ticks[key].filter((_, index) => clear[index]);
  const axis = { type: "linear", gridcolor: colors.grid, zeroline: false, showbackground: true, backgroundcolor: colors.wall,
    color: colors.ink, tickfont: { size: 11, color: colors.muted }, showspikes: false, nticks: 5 };
  const narrow = size.width < NARROW;
  const title = (text) => ({ text: plain(narrow ? text.slice(0, 1) : shorten(text, 34)), font: { size: 12 } });
  return {
    domain: { x: arrange(size).scene, y: [0, 1] }, dragmode: "turntable", camera: camera ?? firstCamera(size),
    aspectmode: "manual", aspectratio: aspect(surface),
    xaxis: { ...axis, title: title(choice.plane.axes[0]), range: roomy(surface.alpha) },
    yaxis: { ...axis, title: title(choice.plane.axes[1]), range: roomy(surface.beta) },
    // The colour bar names the values.
    zaxis: { ...axis, title: { text: "" }, range: [from - 0.02 * (to - from), to], ...ticks },
  };
}

/** The ends, apart even where there is one coordinate. */
const roomy = (coordinates) =>
  (coordinates.length > 1 ? ends(coordinates) : [coordinates[0] - 0.5, coordinates[0] + 0.5]);

/** Where the scene and its colour bar stand, as shares of the width: side by side, centred in a wide panel. */
function arrange({ width, height }) {
  const bar = (width < NARROW ? 58 : 76) / width;
  const share = Math.min(1 - bar, (1.5 * height) / width);
  const left = (1 - share - bar) / 2;
  return { scene: [left, left + share], bar: left + share };
}

/** The camera that a page starts with: far enough away for the box to fit a narrow panel too. */
export function firstCamera({ width, height }) {
  const places = arrange({ width, height }).scene;
  const distance = Math.max(1, (1.18 * height) / (width * (places[1] - places[0])));
  const { x, y, z } = CAMERA.eye;
  return { ...CAMERA, eye: { x: x * distance, y: y * distance, z: z * distance } };
}

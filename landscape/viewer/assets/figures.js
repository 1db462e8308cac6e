// From choices and the state to Plotly's {data, layout}. Nothing here touches the page.

const COLORS = "Viridis"; // even in lightness: survives greyscale and colour-blindness
const LINE_COLORS = { // after Okabe & Ito: told apart by the colour-blind; lighter ones on a dark page
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a06b00", "#5b4fc9"],
  dark: ["#56b4e9", "#e69f00", "#2fc6a0", "#f0a0cb", "#f0e442", "#a9a2ff"],
};
const LINE_DASHES = ["solid", "dash", "dot", "dashdot"];
const FONT = 'ui-sans-serif, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const LEVELS = 18;
const NARROW = 480; // pixels: less room for titles
const MARKS = {
  centre: { symbol: "circle", color: "#ffffff", size: 10 },
  best: { symbol: "diamond", color: "#ff4d6d", size: 15 },
  pick: { symbol: "circle-open", color: "#ff9d00", size: 14 },
};

/** Colours of the current theme, from the style sheet. */
function themeColors() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["ink", "muted", "grid", "card", "wall", "diverged", "unknown"];
  const colors = Object.fromEntries(names.map((name) => [name, read(name)]));
  return { ...colors, name: document.documentElement.dataset.theme };
}

/** Rows over beta of something per grid point, as Plotly wants a matrix. */
function rows(surface, at) {
  const width = surface.beta.length;
  return surface.beta.map((_, j) => surface.alpha.map((_, i) => at(i * width + j)));
}

/** The read-out of one point, without its coordinates. */
function describe(choice, index) {
  const { plane, split, metric } = choice;
  const parts = split.metrics.map((one) => {
    const error = one.stderr ? one.stderr[index] : null;
    return { name: one.name, text: formatValue(one, valuesOf(one)[index], error) };
  });
  parts.sort((one, other) => (other.name === metric.name) - (one.name === metric.name));
  const value = choice.values[index];
  const bound = metric.error > 0 ? `, error about ${formatValue(metric, metric.error)}` : "";
  const origin = isComputed(plane, index) ? "computed" : `interpolated${bound}`;
  return { parts, origin: Number.isNaN(value) ? "not computed yet" : origin };
}

function hoverText(choice, index) {
  const [alpha, beta] = place(choice.surface, index);
  const { parts, origin } = describe(choice, index);
  const where = choice.surface.dim === 2
    ? `α ${formatNumber(alpha, 3)}, β ${formatNumber(beta, 3)}` : `α ${formatNumber(alpha, 3)}`;
  return [where, ...parts.map((part) => `${plain(part.name)} ${part.text}`), origin].join("<br>");
}

function colorbar(limits, metric, colors) {
  return {
    title: { text: plain(shorten(metricTitle(metric), 40)) + (limits.log ? ", log scale" : ""), side: "right",
      font: { size: 12 } },
    thickness: 12, outlinewidth: 0, tickfont: { size: 11, color: colors.muted }, ...ticksFor(limits, metric),
  };
}

/** Points worth a mark: [kind, flat index], the picked one last, on top. */
function marked(choice) {
  const { surface } = choice;
  const marks = [["best", extremum(choice)]];
  if (surface.center) marks.push(["centre", surface.center[0] * surface.beta.length + surface.center[1]]);
  if (state.pick) marks.push(["pick", indexAt(surface, state.pick)]);
  return marks.filter(([, index]) => index >= 0);
}

/** The computed points among interpolated ones; none where no point was interpolated. */
function computedIndices(choice) {
  const found = census(choice);
  if (!state.computed || found.computed + found.unknown >= found.all) return [];
  return [...choice.values.keys()].filter((index) => isComputed(choice.plane, index));
}

const baseLayout = (colors) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
  font: { family: FONT, size: 12, color: colors.ink },
  hoverlabel: { bgcolor: colors.card, bordercolor: colors.muted, font: { family: FONT, size: 12, color: colors.ink },
    align: "left" },
});

// ------------------------------------------------------------------------------------------ 3D

function figure3d(choice, camera, colors, size) {
  const limits = limitsOf([choice]);
  const { surface, metric, values } = choice;
  const [from, to] = [onScale(limits, limits.low), onScale(limits, limits.high)];
  const floor = from - 0.02 * (to - from);
  const height = (index) => Math.min(onScale(limits, values[index]), to);
  const at = (index, lift = 0) => [...place(surface, index), height(index) + lift * (to - from)];
  const spikes = { highlight: true, highlightcolor: "#ff9d00", highlightwidth: 2 };
  const narrow = size.width < NARROW;
  const places = arrange(size);
  const data = [{
    type: "surface", name: "surface", x: surface.alpha, y: surface.beta,
    z: rows(surface, (index) => (Number.isFinite(values[index]) ? onScale(limits, values[index]) : null)),
    cmin: from, cmax: to, colorscale: COLORS,
    colorbar: { ...colorbar(limits, metric, colors), x: places.bar, xanchor: "left", len: 0.78, xpad: 4 },
    hoverinfo: "text", hovertext: rows(surface, (index) => hoverText(choice, index)),
    lighting: { ambient: 0.72, diffuse: 0.55, specular: 0.06, roughness: 0.85, fresnel: 0.05 },
    contours: { x: spikes, y: spikes, z: { show: true, start: from, end: to, size: (to - from) / LEVELS,
      color: "#8fb0b8", width: 1, highlight: false } },
  }];
  const computed = computedIndices(choice).filter((index) => Number.isFinite(values[index]) && height(index) < to);
  if (computed.length) data.push(dots3d("computed", computed.map((index) => at(index, 0.006)), colors.ink, 1.6));
  const diverged = [...values.keys()].filter((index) => values[index] === Infinity);
  if (diverged.length) {
    data.push(dots3d("diverged", diverged.map((index) => [...place(surface, index), to]), colors.diverged, 3));
  }
  marked(choice).forEach(([kind, index], order) => {
    if (!Number.isNaN(values[index])) data.push(pin(kind, at(index), at(index, 0.08 + 0.07 * order)));
  });
  const heightTicks = ticksFor(limits, metric);
  const clear = heightTicks.tickvals.map((value) => value > from + 0.05 * (to - from)); // of the corner's other labels
  for (const key of ["tickvals", "ticktext"]) heightTicks[key] = heightTicks[key].filter((_, index) => clear[index]);
  const axis = { gridcolor: colors.grid, zeroline: false, showbackground: true, backgroundcolor: colors.wall,
    color: colors.ink, tickfont: { size: 11, color: colors.muted }, showspikes: false, nticks: 5 };
  const title = (text) => ({ text: plain(narrow ? text.slice(0, 1) : shorten(text, 34)), font: { size: 12 } });
  const scene = {
    domain: { x: places.scene, y: [0, 1] }, dragmode: "turntable", camera: camera ?? firstCamera(size),
    aspectmode: "manual", aspectratio: aspect(surface),
    xaxis: { ...axis, title: title(choice.plane.axes[0]), range: ends(surface.alpha) },
    yaxis: { ...axis, title: title(choice.plane.axes[1]), range: ends(surface.beta) },
    zaxis: { ...axis, title: title(metric.name), range: [floor, to], ...heightTicks },
  };
  return { data, layout: { ...baseLayout(colors), scene, margin: { l: 0, r: 0, t: 0, b: 0 } } };
}

const dots3d = (name, points, color, size, marker = {}) => ({
  type: "scatter3d", mode: "markers", name, hoverinfo: "skip",
  x: points.map((point) => point[0]), y: points.map((point) => point[1]), z: points.map((point) => point[2]),
  marker: { color, size, ...marker },
});

/** A mark on a stem: on the surface itself half of it would be buried. */
const pin = (name, [x, y, foot], [, , head]) => ({
  type: "scatter3d", mode: "lines+markers", name, hoverinfo: "skip", x: [x, x], y: [y, y], z: [foot, head],
  line: { color: MARKS[name].color, width: 4 },
  marker: { color: MARKS[name].color, size: [0.1, MARKS[name].size * 0.62], line: { color: "#14181d", width: 1 },
    symbol: name === "pick" ? "circle" : MARKS[name].symbol, opacity: 1 },
});

/** Where the scene and its colour bar stand, as shares of the width: side by side, centred in a wide panel. */
function arrange({ width, height }) {
  const bar = (width < NARROW ? 58 : 76) / width;
  const scene = Math.min(1 - bar, (1.5 * height) / width);
  const left = (1 - scene - bar) / 2;
  return { scene: [left, left + scene], bar: left + scene };
}

/** The camera that a page starts with: far enough away for the box to fit a narrow panel too. */
function firstCamera({ width, height }) {
  const { scene } = arrange({ width, height });
  const distance = Math.max(1, (1.18 * height) / (width * (scene[1] - scene[0])));
  const { x, y, z } = CAMERA.eye;
  return { ...CAMERA, eye: { x: x * distance, y: y * distance, z: z * distance } };
}

const ends = (coordinates) => [coordinates[0], coordinates.at(-1)];
const span = (coordinates) => coordinates.at(-1) - coordinates[0] || 1;

/** Sides of the box: true to the spans of alpha and beta unless one is more than twice the other. */
function aspect(surface) {
  const ratio = Math.min(2, Math.max(0.5, span(surface.beta) / span(surface.alpha)));
  const scale = 1 / Math.sqrt(ratio);
  return { x: scale, y: ratio * scale, z: 0.72 };
}

// ------------------------------------------------------------------------------------------ flat

function figureFlat(choice, colors, size) {
  const limits = limitsOf([choice]);
  const { surface, metric, values } = choice;
  const [from, to] = [onScale(limits, limits.low), onScale(limits, limits.high)];
  const holes = { type: "heatmap", name: "holes", x: surface.alpha, y: surface.beta, hoverinfo: "skip",
    z: rows(surface, (index) => (Number.isFinite(values[index]) ? null : Number(values[index] === Infinity))),
    zmin: 0, zmax: 1, colorscale: [[0, colors.unknown], [1, colors.diverged]], showscale: false };
  const main = { type: state.view, name: "surface", x: surface.alpha, y: surface.beta,
    z: rows(surface, (index) => (Number.isFinite(values[index]) ? onScale(limits, values[index]) : null)),
    zmin: from, zmax: to, colorscale: COLORS, colorbar: { ...colorbar(limits, metric, colors), len: 1, y: 0.5 },
    hoverinfo: "text", hovertext: rows(surface, (index) => hoverText(choice, index)) };
  if (state.view === "contour") {
    Object.assign(main, { connectgaps: false, autocontour: false, line: { color: "rgba(255,255,255,0.55)", width: 0.8 },
      contours: { coloring: "heatmap", start: from, end: to, size: (to - from) / LEVELS } });
  }
  const data = values.every(Number.isFinite) ? [main] : [holes, main];
  const computed = computedIndices(choice);
  if (computed.length) data.push(dots("computed", computed.map((index) => place(surface, index)),
    { color: "#ffffff", size: 4, line: { color: "#14181d", width: 0.8 } }));
  for (const [kind, index] of marked(choice)) {
    const { symbol, color, size: dot } = MARKS[kind];
    const line = kind === "pick" ? { color, width: 3 } : { color: "#14181d", width: 1.2 };
    data.push(dots(kind, [place(surface, index)], { symbol, color, size: dot, line }));
  }
  const axis = { gridcolor: colors.grid, zeroline: false, ticks: "outside", tickcolor: colors.grid, nticks: 7,
    tickfont: { size: 11, color: colors.muted }, constrain: "domain" };
  const [x, y] = choice.plane.axes.map((text) => ({ text: plain(shorten(text, 48)), font: { size: 12 }, standoff: 8 }));
  const layout = { ...baseLayout(colors), hovermode: "closest", dragmode: "zoom", margin: margins(surface, size),
    xaxis: { ...axis, title: x, range: state.zoom?.x ?? edges(surface.alpha) },
    yaxis: { ...axis, title: y, range: state.zoom?.y ?? edges(surface.beta) } };
  return { data, layout };
}

const dots = (name, points, marker) => ({
  type: "scatter", mode: "markers", name, hoverinfo: "skip", marker,
  x: points.map((point) => point[0]), y: points.map((point) => point[1]),
});

/** Range of an axis: whole cells in the heat map, the outermost points in the contour map. */
function edges(coordinates) {
  const half = state.view === "heatmap" ? span(coordinates) / (2 * Math.max(1, coordinates.length - 1)) : 0;
  return [coordinates[0] - half, coordinates.at(-1) + half];
}

/** Margins that give the axes their true proportions, centred, with the colour bar close by. */
function margins(surface, { width, height }) {
  const margin = width < NARROW ? { l: 48, r: 74, t: 8, b: 44 } : { l: 58, r: 92, t: 12, b: 50 };
  const ratio = Math.min(2, Math.max(0.5, span(surface.beta) / span(surface.alpha)));
  const [inner, outer] = [width - margin.l - margin.r, height - margin.t - margin.b];
  const spare = [inner - outer / ratio, outer - inner * ratio];
  if (spare[0] > 0) return { ...margin, l: margin.l + spare[0] / 2, r: margin.r + spare[0] / 2 };
  return { ...margin, t: margin.t + spare[1] / 2, b: margin.b + spare[1] / 2 };
}

// ------------------------------------------------------------------------------------------ lines

function figureLines(choices, colors, size, zoomed) {
  const limits = withBands(limitsOf(choices), choices);
  const { metric } = choices[0];
  const data = choices.flatMap((choice, index) => lineTraces(choice, index, limits, LINE_COLORS[colors.name]));
  if (choices.some((choice) => choice.surface.center)) {
    data.push({ type: "scatter", mode: "lines", name: "centre", x: [0, 0], y: [limits.low, limits.high],
      line: { color: colors.muted, width: 1, dash: "dot" }, hoverinfo: "skip", showlegend: false });
  }
  const axis = { gridcolor: colors.grid, zeroline: false, tickfont: { size: 11, color: colors.muted } };
  const pad = limits.log ? 0.03 * Math.log10(limits.high / limits.low) : 0.03 * (limits.high - limits.low);
  const title = metricTitle(metric) + (limits.log ? ", log scale" : "");
  const ticks = ticksFor(limits, metric);
  if (limits.log) ticks.tickvals = ticks.tickvals.map((value) => 10 ** value);
  const layout = { ...baseLayout(colors), hovermode: "closest", dragmode: "zoom",
    margin: { l: 70, r: 16, t: 12, b: choices.length > 1 ? 96 : 50 }, showlegend: choices.length > 1,
    legend: { orientation: "h", traceorder: "normal", font: { size: 12 }, yanchor: "top",
      y: -64 / Math.max(200, size.height - 108) },
    xaxis: { ...axis, title: { text: plain(choices[0].plane.axes[0]), standoff: 8 },
      range: zoomed ?? lineEnds(choices) },
    yaxis: { ...axis, fixedrange: true, title: { text: plain(title) }, type: limits.log ? "log" : "linear", ...ticks,
      range: [onScale(limits, limits.low) - pad, onScale(limits, limits.high) + pad] } };
  return { data, layout };
}

/** The limits with room below for the bands of standard errors; a log scale has none below zero. */
function withBands(limits, choices) {
  const lower = choices.flatMap(({ values, metric }) =>
    [...values].map((value, i) => value - (metric.stderr?.[i] ?? 0)));
  const low = Math.min(limits.low, ...lower.filter((value) => Number.isFinite(value) && (value > 0 || !limits.log)));
  return { ...limits, low: limits.log ? Math.max(low, limits.low / 2) : low };
}

const lineEnds = (choices) => [
  Math.min(...choices.map((choice) => choice.surface.alpha[0])),
  Math.max(...choices.map((choice) => choice.surface.alpha.at(-1))),
];

/** A line with a band of one standard error, its best point and the picked one. */
function lineTraces(choice, order, limits, palette) {
  const { surface, metric, values } = choice;
  const color = palette[order % palette.length];
  const finite = [...values].map((value) => (Number.isFinite(value) ? value : null));
  const common = { type: "scatter", x: surface.alpha, showlegend: false, hoverinfo: "skip", cliponaxis: false };
  const traces = [];
  if (metric.stderr) {
    const bound = (sign) => finite.map((value, i) =>
      (value === null ? null : Math.max(value + sign * (metric.stderr[i] ?? 0), limits.log ? limits.low : -Infinity)));
    const edge = { ...common, mode: "lines", line: { width: 0, color }, cliponaxis: true };
    traces.push({ ...edge, name: "band", y: bound(-1) },
      { ...edge, name: "band", y: bound(1), fill: "tonexty", fillcolor: `${color}2b` });
  }
  traces.push({ ...common, name: plain(shorten(surface.label, 40)), y: finite, cliponaxis: true, showlegend: true,
    mode: state.computed ? "lines+markers" : "lines", meta: page.surfaces.indexOf(surface),
    line: { color, width: 2.2, dash: LINE_DASHES[Math.floor(order / palette.length) % LINE_DASHES.length] },
    marker: { size: finite.map((_, i) => (isComputed(choice.plane, i) ? 5 : 0)) },
    hoverinfo: "text", hovertext: finite.map((_, i) => hoverText(choice, i)) });
  const diverged = [...values.keys()].filter((index) => values[index] === Infinity);
  if (diverged.length) {
    traces.push({ ...common, mode: "markers", name: "diverged", x: diverged.map((index) => surface.alpha[index]),
      y: diverged.map(() => limits.high), marker: { symbol: "x", size: 8, color } });
  }
  for (const [kind, index] of marked(choice)) {
    if (kind === "centre" || finite[index] === null) continue;
    const { symbol, size } = MARKS[kind];
    const look = kind === "pick" ? { color: MARKS.pick.color, line: { width: 3 } } : { color, line: { width: 1 } };
    traces.push({ ...common, mode: "markers", name: kind, x: [surface.alpha[index]], y: [finite[index]],
      marker: { symbol, size, ...look } });
  }
  return traces;
}

// Lines in one chart, as Plotly's {data, layout}: one-dimensional surfaces, and cuts through others.

import { LINE_COLORS } from "./colors.js";
import { finiteOr, isComputed } from "./data.js";
import { formatNumber, metricTitle, plain, shorten } from "./format.js";
import { limitsOf } from "./limits.js";
import { baseLayout, describe, FONT, LINE_DASHES, marked, MARKS, pathsOf } from "./look.js";
import { heightAt } from "./mesh.js";
import { page } from "./page.js";
import { onScale, ticksFor } from "./scales.js";
import { state } from "./state.js";

export function figureLines(choices, colors, size, zoomed, range = limitsOf(choices)) {
  const limits = withBands(range, choices);
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
  const hoverlabel = { bgcolor: colors.card, bordercolor: colors.muted, align: "left",
    font: { family: FONT, size: 12, color: colors.ink } };
  const layout = { ...baseLayout(colors), hoverlabel, hovermode: "closest", dragmode: "zoom",
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

export const lineEnds = (choices) => [
  Math.min(...choices.map((choice) => choice.surface.alpha[0])),
  Math.max(...choices.map((choice) => choice.surface.alpha.at(-1))),
];

export const lineColor = (order, palette) => palette[order % palette.length];
export const lineDash = (order, palette) => LINE_DASHES[Math.floor(order / palette.length) % LINE_DASHES.length];

function hoverText(choice, index) {
  const { parts, origin } = describe(choice, index);
  const where = `${choice.symbol ?? "α"} ${formatNumber(choice.surface.alpha[index], 3)}`;
  return [where, ...parts.map((part) => `${plain(part.name)} ${part.text}`), origin].join("<br>");
}

/** Networks projected onto the line, at the line's own values. */
function pathOnLine(choice, finite, common) {
  const values = finite.map(finiteOr(NaN));
  return pathsOf(choice).map((path) => {
    const y = path.alpha.map((alpha) => heightAt(choice.surface, values, [alpha, choice.surface.beta[0]]));
    return { ...common, mode: "lines+markers", name: "path", x: path.alpha, y: y.map(finiteOr(null)),
      hoverinfo: "text", hovertext: path.labels.map(plain), line: { color: path.color, width: 1, dash: "dot" },
      marker: { color: path.color, size: 7, line: { color: "#ffffff", width: 1 } } };
  });
}

/** A line with a band of one standard error, its best point and the picked one. */
function lineTraces(choice, order, limits, palette) {
  const { surface, metric, values } = choice;
  const color = lineColor(order, palette);
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
    mode: state.computed ? "lines+markers" : "lines", meta: choice.number ?? page.surfaces.indexOf(surface),
    line: { color, width: 2.2, dash: lineDash(order, palette) },
    marker: { size: finite.map((_, i) => (isComputed(choice, i) ? 5 : 0)) },
    hoverinfo: "text", hovertext: finite.map((_, i) => hoverText(choice, i)) });
  const diverged = [...values.keys()].filter((index) => values[index] === Infinity);
  if (diverged.length) {
    traces.push({ ...common, mode: "markers", name: "diverged", x: diverged.map((index) => surface.alpha[index]),
      y: diverged.map(() => limits.high), marker: { symbol: "x", size: 8, color } });
  }
  traces.push(...pathOnLine(choice, finite, common));
  for (const [kind, index] of marked(choice)) {
    if (kind === "centre" || finite[index] === null) continue;
    const { symbol, size } = MARKS[kind];
    const look = kind === "pick" ? { color: MARKS.pick.color, line: { width: 3 } } : { color, line: { width: 1 } };
    traces.push({ ...common, mode: "markers", name: kind, x: [surface.alpha[index]], y: [finite[index]],
      marker: { symbol, size, ...look } });
  }
  return traces;
}

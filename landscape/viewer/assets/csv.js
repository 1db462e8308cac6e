// Values as CSV, one grid point a line.

// @ts-check
/** @import { Choice, Missing, Split } from "./types.js" */

import { place, valuesOf } from "./data.js";
import { spreadsheet } from "./format.js";

/**
 * A CSV field; text that a spreadsheet would run as a formula is defused.
 * @param {string} text
 * @returns {string}
 */
function csvField(text) {
  const safe = spreadsheet(text);
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @type {(value: number | null) => string} */
const csvNumber = (value) => {
  if (value === null || Number.isNaN(value)) return "nan";
  return Number.isFinite(value) ? String(value) : "inf";
};

/**
 * All metrics of the choices' planes and splits; curvature has computed points of its own.
 * @param {(Choice | (Missing & { split: Split }))[]} choices
 * @returns {string}
 */
export function csvOf(choices) {
  const metrics = [...new Set(choices.flatMap((choice) => choice.split.metrics.map((metric) => metric.name)))];
  const findIn = (split, name) => split.metrics.find((metric) => metric.name === name);
  const own = new Set(metrics.filter((name) => choices.some(({ split }) => findIn(split, name)?.computed)));
  const columns = metrics.flatMap((name) => [name, `${name}_stderr`, ...(own.has(name) ? [`${name}_computed`] : [])]);
  const head = ["surface", "plane", "split", "alpha", "beta", ...columns, "computed"];
  const lines = choices.flatMap(({ surface, plane, split }) => {
    const found = metrics.map((name) => [name, findIn(split, name)]);
    return Array.from({ length: plane.computed.length }, (_, index) => {
      const values = found.flatMap(([name, metric]) => [
        ...(metric ? [csvNumber(valuesOf(metric)[index]), csvNumber(metric.stderr?.[index] ?? null)] : ["nan", "nan"]),
        ...(own.has(name) ? [metric ? (metric.computed ?? plane.computed)[index] : "0"] : [])]);
      return [csvField(surface.label), csvField(plane.name), csvField(split.name), ...place(surface, index), ...values,
        plane.computed[index]].join(",");
    });
  });
  return [head.map(csvField).join(","), ...lines, ""].join("\n");
}

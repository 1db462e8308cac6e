// Surfaces as the page has them: arrays are flat, index = i * beta.length + j. See types.d.ts.

// @ts-check
/** @import { Choice, Grid, Metric, Missing, Surface, Wanted } from "./types.js" */

import { count, displayName } from "./format.js";

/** @type {WeakMap<Metric, Float64Array>} */
const decoded = new WeakMap();

/**
 * A metric that isn't from the file, with its values.
 * @param {Metric} metric
 * @param {Float64Array} values
 * @returns {Metric}
 */
export function withValues(metric, values) {
  decoded.set(metric, values);
  return metric;
}

/**
 * Values of a metric with NaN = not known and Infinity = diverged.
 * @param {Metric} metric
 * @returns {Float64Array}
 */
export function valuesOf(metric) {
  const known = decoded.get(metric);
  if (known) return known;
  const values = Float64Array.from(metric.values, (value) => (value === null ? NaN : value));
  for (const index of metric.diverged) values[index] = Infinity;
  decoded.set(metric, values);
  return values;
}

/**
 * One surface's plane, split, metric and values in a state, whatever the reference.
 * A plane that the file lacks falls back to its first one (the subtitle names it); a split or metric does
 * not, because other examples or units beside each other would mislead: then `missing` says what is absent.
 * @param {Surface} surface
 * @param {Wanted} state
 * @returns {Choice | Missing}
 */
export function selectPlain(surface, state) {
  const plane = surface.planes.find((one) => one.name === state.plane) ?? surface.planes[0];
  const split = plane.splits.find((one) => one.name === state.split);
  if (!split) return { surface, plane, missing: `This file has no “${state.split}” examples.` };
  const metric = split.metrics.find((one) => one.name === state.metric);
  if (!metric) {
    return { surface, plane, split, missing: `This file has no “${displayName(state.metric)}” on ${split.name}.` };
  }
  return { surface, plane, split, metric, values: valuesOf(metric) };
}

/** @type {(surface: Surface) => string} */
export const gridOf = ({ dim, alpha, beta }) =>
  (dim === 2 ? `${alpha.length} × ${beta.length} points` : count(alpha.length, "point"));

/**
 * Index of the coordinate nearest to `value`.
 * @param {number[]} coordinates
 * @param {number} value
 * @returns {number}
 */
export function nearest(coordinates, value) {
  let best = 0;
  coordinates.forEach((one, index) => {
    if (Math.abs(one - value) < Math.abs(coordinates[best] - value)) best = index;
  });
  return best;
}

/**
 * Grid point nearest to a place, as [i, j] and as flat index.
 * @type {(surface: Grid, at: [number, number]) => [number, number]}
 */
export const indicesAt = (surface, [alpha, beta]) => [nearest(surface.alpha, alpha), nearest(surface.beta, beta)];
/**
 * @param {Grid} surface
 * @param {[number, number]} at
 * @returns {number}
 */
export function indexAt(surface, at) {
  const [i, j] = indicesAt(surface, at);
  return i * surface.beta.length + j;
}

/**
 * Whether the shown value was computed there: curvature has points of its own.
 * @type {(choice: Choice, index: number) => boolean}
 */
export const isComputed = ({ plane, metric }, index) => (metric.computed ?? plane.computed)[index] === "1";

/**
 * Grid index of the best finite value: lowest, or highest where more is better; -1 where there is none.
 * @param {Choice} choice
 * @returns {number}
 */
export function extremum(choice) {
  const sign = choice.metric.unit === "fraction" ? -1 : 1;
  let best = -1;
  choice.values.forEach((value, index) => {
    if (Number.isFinite(value) && (best < 0 || sign * value < sign * choice.values[best])) best = index;
  });
  return best;
}

/**
 * Coordinates of a flat index.
 * @param {Grid} surface
 * @param {number} index
 * @returns {[number, number]}
 */
export function place(surface, index) {
  const width = surface.beta.length;
  return [surface.alpha[Math.floor(index / width)], surface.beta[index % width]];
}

/**
 * How many values are diverged, not known, computed and in all.
 * @param {Choice} choice
 */
export function census(choice) {
  const count = { diverged: 0, unknown: 0, computed: 0, all: choice.values.length };
  choice.values.forEach((value, index) => {
    if (Number.isNaN(value)) count.unknown += 1;
    else if (!Number.isFinite(value)) count.diverged += 1;
    if (isComputed(choice, index)) count.computed += 1;
  });
  return count;
}

/** @type {(coordinates: number[]) => [number, number]} */
export const ends = (coordinates) => [coordinates[0], coordinates[coordinates.length - 1]];
/** @type {(coordinates: number[]) => number} */
export const span = (coordinates) => coordinates[coordinates.length - 1] - coordinates[0] || 1;

/**
 * Beta's span over alpha's, as drawn: true unless one is more than twice the other.
 * @type {(surface: Grid) => number}
 */
export const proportion = (surface) => Math.min(2, Math.max(0.5, span(surface.beta) / span(surface.alpha)));

/**
 * For lists: what isn't finite becomes `other`.
 * @type {<T>(other: T) => (value: number) => number | T}
 */
export const finiteOr = (other) => (value) => (Number.isFinite(value) ? value : other);

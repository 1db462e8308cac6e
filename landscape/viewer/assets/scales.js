// Value ranges, clipping, linear and log, ticks.

// @ts-check
/** @import { Choice, Extent, Limits, Metric } from "./types.js" */

import { formatNumber, minus } from "./format.js";

/** @type {WeakMap<Metric, Extent>} */
const extents = new WeakMap();

/**
 * Lowest, highest and lowest positive finite value of a choice; infinite bounds where nothing is finite.
 * @param {Pick<Choice, "metric" | "values">} choice
 * @returns {Extent}
 */
export function extentOf(choice) {
  const known = extents.get(choice.metric);
  if (known) return known;
  let [low, high, positive] = [Infinity, -Infinity, Infinity];
  for (const value of choice.values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
    if (value > 0) positive = Math.min(positive, value);
  }
  extents.set(choice.metric, { low, high, positive });
  return { low, high, positive };
}

/**
 * @param {Pick<Choice, "metric" | "values">[]} choices
 * @returns {Extent}
 */
export function extent(choices) {
  const all = choices.map(extentOf);
  return {
    low: Math.min(...all.map((one) => one.low)),
    high: Math.max(...all.map((one) => one.high)),
    positive: Math.min(...all.map((one) => one.positive)),
  };
}

/**
 * Limits for values in an extent. The clip, a share of the range, moves the upper end only. Differences have zero
 * in the middle.
 * @param {Extent} found
 * @param {{ differences?: boolean, log?: boolean, share?: number }} [how]
 * @returns {Limits}
 */
export function rangeOf(found, { differences = false, log = false, share = 1 } = {}) {
  if (found.high < found.low) return { low: 0, high: 1, log: false };
  if (differences) {
    const high = Math.max(Math.abs(found.low), Math.abs(found.high)) * share || 1e-12;
    return { low: -high, high, log: false, diverging: true };
  }
  const low = log ? found.positive : found.low;
  let high = low + (found.high - low) * share;
  if (!(high > low)) high = low + Math.max(Math.abs(low) * 0.01, 1e-12);
  return { low, high, log };
}

/** @type {(limits: Limits, value: number) => number} */
export const onScale = (limits, value) => (limits.log ? Math.log10(value) : value);

/**
 * Round values in the log range for ticks: 1, 2, 5 × 10^k, or powers of ten where they would crowd.
 * @param {Pick<Limits, "low" | "high">} limits
 * @returns {number[]}
 */
function logTicks({ low, high }) {
  const [from, to] = [Math.log10(low), Math.log10(high)];
  if (to - from < 0.7) return evenTicks(low, high);
  const steps = to - from > 2.5 ? [1] : [1, 2, 5];
  const stride = Math.max(1, Math.ceil((to - from) / 8));
  const ticks = [];
  for (let power = Math.floor(from); power <= Math.ceil(to); power += 1) {
    if (power % stride === 0) ticks.push(...steps.map((step) => Number(`${step}e${power}`)));
  }
  const shown = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return shown.length < 3 ? evenTicks(low, high) : shown;
}

/**
 * Four to eight round, evenly spaced values.
 * @param {number} low
 * @param {number} high
 * @returns {number[]}
 */
function evenTicks(low, high) {
  const rough = (high - low) / 8;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((one) => one >= rough) ?? 10 * unit;
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k += 1) ticks.push(Number((k * step).toPrecision(10)));
  return ticks;
}

/**
 * Plotly tick settings for an axis or colour bar whose numbers are `onScale`.
 * @param {Limits} limits
 * @param {Pick<Metric, "unit">} metric
 */
export function ticksFor(limits, metric) {
  const values = limits.log ? logTicks(limits) : evenTicks(limits.low, limits.high);
  const percent = (value) => Number((100 * value).toPrecision(6));
  const decimals = (value) => String(percent(value)).split(".")[1]?.length ?? 0;
  const digits = Math.min(6, Math.max(0, ...values.map(decimals)));
  const label = (value) => {
    if (metric.unit !== "fraction") return formatNumber(value, 6);
    return `${limits.log ? formatNumber(percent(value), 6) : minus(percent(value).toFixed(digits))} %`;
  };
  return {
    tickmode: "array",
    tickvals: values.map((value) => onScale(limits, value)),
    ticktext: values.map(label),
  };
}

// What a surface shows: its own values or, with a reference, their difference to the reference's.

import { ends, gridOf, isComputed, selectPlain, valuesOf, withValues } from "./data.js";
import { formatNumber } from "./format.js";
import { page } from "./page.js";

const differences = new WeakMap(); // metric -> reference's metric -> the difference

/**
 * The choice of one surface in a state; see `selectPlain`. With a reference, `values` and `metric` are the
 * difference and `base` is the reference's choice; the reference itself stays as it is, unless it is a line,
 * which lies at zero among the others. `missing` says why there is none.
 */
export function select(surface, state) {
  const choice = selectPlain(surface, state);
  const reference = page.surfaces[state.reference];
  if (!reference || choice.missing || (surface === reference && surface.dim === 2)) return choice;
  const base = selectPlain(reference, state);
  const obstacle = base.missing ? "the reference doesn’t have this quantity." : gridsDiffer(surface, reference);
  return obstacle ? { ...choice, missing: `No difference: ${obstacle}` } : difference(choice, base);
}

/** Why two surfaces can't be subtracted, or "". */
function gridsDiffer(one, other) {
  const same = (a, b) => a.length === b.length
    && a.every((value, index) => Math.abs(value - b[index]) <= 1e-8 * Math.max(1, Math.abs(value)));
  if (same(one.alpha, other.alpha) && same(one.beta, other.beta)) return "";
  return `the grids differ. This one: ${gridInWords(one)}; the reference: ${gridInWords(other)}.`;
}

function gridInWords(surface) {
  const [from, to] = ends(surface.alpha).map((value) => formatNumber(value, 3));
  return `${gridOf(surface)}, α from ${from} to ${to}`;
}

function difference(choice, base) {
  if (!differences.has(choice.metric)) differences.set(choice.metric, new WeakMap());
  const known = differences.get(choice.metric);
  if (!known.has(base.metric)) known.set(base.metric, differenceMetric(choice, base));
  const metric = known.get(base.metric);
  return { ...choice, base, metric, values: valuesOf(metric) };
}

/** Diverged where either is. Its standard error is unknown: both were measured on the same examples. */
function differenceMetric(choice, base) {
  const values = choice.values.map((value, index) => {
    const change = value - base.values[index];
    return Math.abs(value) === Infinity || Math.abs(base.values[index]) === Infinity ? Infinity : change;
  });
  const both = (index) => isComputed(choice, index) && isComputed(base, index);
  const metric = { ...choice.metric, difference: true, stderr: null, computed: Array.from(values, (_, index) =>
    (both(index) ? "1" : "0")).join(""), error: (choice.metric.error ?? 0) + (base.metric.error ?? 0) };
  return withValues(metric, values);
}

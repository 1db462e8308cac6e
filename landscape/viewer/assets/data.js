// The surfaces of this page, read once from the JSON block. Arrays are flat, index = i * beta.length + j.

/** For JSON.parse: controls and marks that reorder text stand as their escapes, as on the terminal. */
function visible(key, value) {
  if (typeof value !== "string") return value;
  return value.replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (letter) =>
    `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}`,
  );
}

const page = JSON.parse(document.getElementById("payload").textContent, visible);
const decoded = new WeakMap();

/** Values of a metric with NaN = not known and Infinity = diverged. */
function valuesOf(metric) {
  if (!decoded.has(metric)) {
    const values = Float64Array.from(metric.values, (value) => (value === null ? NaN : value));
    for (const index of metric.diverged) values[index] = Infinity;
    decoded.set(metric, values);
  }
  return decoded.get(metric);
}

/** Names in order of first appearance over all surfaces. */
function union(namesOf) {
  return [...new Set(page.surfaces.flatMap(namesOf))];
}

const [allPlanes, allSplits, allMetrics] = [[], [], []];

/** Fill the lists of names; again when the surfaces have changed. */
function collectNames() {
  const splits = (surface) => surface.planes.flatMap((plane) => plane.splits);
  const fill = (list, namesOf) => list.splice(0, list.length, ...union(namesOf));
  fill(allPlanes, (surface) => surface.planes.map((plane) => plane.name));
  fill(allSplits, (surface) => splits(surface).map((split) => split.name));
  fill(allMetrics, (surface) => splits(surface).flatMap((split) => split.metrics.map((metric) => metric.name)));
}
collectNames();

/**
 * One surface's plane, split, metric and values in a state, whatever the reference.
 * A plane that the file lacks falls back to its first one (the subtitle names it); a split or metric does
 * not, because other examples or units beside each other would mislead: then `missing` says what is absent.
 */
function selectPlain(surface, state) {
  const plane = surface.planes.find((one) => one.name === state.plane) ?? surface.planes[0];
  const split = plane.splits.find((one) => one.name === state.split);
  if (!split) return { surface, plane, missing: `This file has no “${state.split}” examples.` };
  const metric = split.metrics.find((one) => one.name === state.metric);
  if (!metric) {
    return { surface, plane, split, missing: `This file has no “${displayName(state.metric)}” on ${split.name}.` };
  }
  return { surface, plane, split, metric, values: valuesOf(metric) };
}

const gridOf = ({ dim, alpha, beta }) =>
  (dim === 2 ? `${alpha.length} × ${beta.length} points` : count(alpha.length, "point"));

/** Index of the coordinate nearest to `value`. */
function nearest(coordinates, value) {
  let best = 0;
  coordinates.forEach((one, index) => {
    if (Math.abs(one - value) < Math.abs(coordinates[best] - value)) best = index;
  });
  return best;
}

/** Grid point nearest to a place, as [i, j] and as flat index. */
const indicesAt = (surface, [alpha, beta]) => [nearest(surface.alpha, alpha), nearest(surface.beta, beta)];
function indexAt(surface, at) {
  const [i, j] = indicesAt(surface, at);
  return i * surface.beta.length + j;
}

/** Whether the shown value was computed there: curvature has points of its own. */
const isComputed = ({ plane, metric }, index) => (metric.computed ?? plane.computed)[index] === "1";

/** Grid index of the best finite value: lowest, or highest where more is better; -1 where there is none. */
function extremum(choice) {
  const sign = choice.metric.unit === "fraction" ? -1 : 1;
  let best = -1;
  choice.values.forEach((value, index) => {
    if (Number.isFinite(value) && (best < 0 || sign * value < sign * choice.values[best])) best = index;
  });
  return best;
}

/** Coordinates of a flat index. */
function place(surface, index) {
  const width = surface.beta.length;
  return [surface.alpha[Math.floor(index / width)], surface.beta[index % width]];
}

/** How many values are diverged, not known, computed and in all. */
function census(choice) {
  const count = { diverged: 0, unknown: 0, computed: 0, all: choice.values.length };
  choice.values.forEach((value, index) => {
    if (Number.isNaN(value)) count.unknown += 1;
    else if (!Number.isFinite(value)) count.diverged += 1;
    if (isComputed(choice, index)) count.computed += 1;
  });
  return count;
}

// From where to where the figures show values, as the state says. The clip slider's cube makes its lower part fine,
// where the basin is.

import { select } from "./compare.js";
import { displayName } from "./format.js";
import { page } from "./page.js";
import { extent, extentOf, rangeOf } from "./scales.js";
import { state } from "./state.js";

export const shownEverywhere = () =>
  page.surfaces.map((surface) => select(surface, state)).filter((choice) => !choice.missing);

/** Why there is no log scale: "" where there is one. It needs positive values throughout. */
export function logObstacle() {
  if (state.reference !== "") return "differences have a linear scale";
  const below = shownEverywhere().find((choice) => extentOf(choice).low <= 0);
  return below ? `linear: ${displayName(below.metric.name)} is not above 0 everywhere` : "";
}

const logPossible = () => !logObstacle();
export const usesLog = () => state.scale === "log" && logPossible();

/** From where to where a figure shows values; differences and plain values have limits of their own. */
export function limitsOf(choices) {
  const differences = Boolean(choices[0]?.metric?.difference);
  const alike = shownEverywhere().filter((choice) => Boolean(choice.metric.difference) === differences);
  return limitsFor(extent(state.limits === "shared" ? alike : choices), differences);
}

/** The limits of an extent in the present state. */
export const limitsFor = (found, differences = false, share = state.clip ** 3) =>
  rangeOf(found, { differences, share, log: usesLog() });

// The surfaces of this page, read once from the JSON block, and the names in them.

import { unhidden } from "./format.js";

/** For JSON.parse: no text has anything hidden. */
export function visible(_key, value) {
  return typeof value === "string" ? unhidden(value) : value;
}

export const page = JSON.parse(document.getElementById("payload").textContent, visible);

/** Names in order of first appearance over all surfaces. */
function union(namesOf) {
  return [...new Set(page.surfaces.flatMap(namesOf))];
}

export const [allPlanes, allSplits, allMetrics] = [[], [], []];

/** Fill the lists of names; again when the surfaces have changed. */
export function collectNames() {
  const splits = (surface) => surface.planes.flatMap((plane) => plane.splits);
  const fill = (list, namesOf) => list.splice(0, list.length, ...union(namesOf));
  fill(allPlanes, (surface) => surface.planes.map((plane) => plane.name));
  fill(allSplits, (surface) => splits(surface).map((split) => split.name));
  fill(allMetrics, (surface) => splits(surface).flatMap((split) => split.metrics.map((metric) => metric.name)));
}
collectNames();

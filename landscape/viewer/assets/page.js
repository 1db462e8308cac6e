// The surfaces of this page, read once from the JSON block, and the names in them.

/** For JSON.parse: controls and marks that reorder text stand as their escapes, as on the terminal. */
export function visible(_key, value) {
  if (typeof value !== "string") return value;
  return value.replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (letter) =>
    `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}`,
  );
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

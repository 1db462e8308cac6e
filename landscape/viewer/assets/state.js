// The view: one object that every control changes, that every figure is drawn from, and that the URL keeps.

import { select } from "./compare.js";
import { allMetrics, allPlanes, allSplits, page } from "./page.js";

export const CAMERA = { eye: { x: 1.16, y: -1.35, z: 0.86 }, center: { x: 0, y: 0, z: -0.2 }, up: { x: 0, y: 0, z: 1 } };
export const MANY_PANELS = 8; // above, 3D only on request: every 3D panel needs a WebGL context

const defaultView = () => ({
  view: page.surfaces.filter((surface) => surface.dim === 2).length > MANY_PANELS ? "contour" : "3d",
  metric: allMetrics.includes("loss") ? "loss" : allMetrics[0],
  scale: "linear",
  split: allSplits[0],
  plane: allPlanes[0],
  limits: "shared",
  linked: true,
  clip: 1,
  computed: false,
  reference: "", // number of the surface that the others are compared with
  path: true,
  theme: "auto",
  pick: null, // [alpha, beta]
  camera: null, // as Plotly's; null = `firstCamera`
  zoom: null, // {x: [from, to], y: [from, to]} of the flat views; each has its own where they aren't linked
});

export const DEFAULTS = {};

/** Walls that dwarf the basin call for a log scale: the largest value far above the median. */
function fittingScale() {
  const values = page.surfaces.flatMap((surface) => {
    const choice = select(surface, DEFAULTS);
    return choice.missing ? [] : [...choice.values].filter(Number.isFinite);
  });
  values.sort((one, other) => one - other);
  const heavy = values.at(-1) > 20 * values[Math.floor(values.length / 2)];
  return values.length && values[0] > 0 && heavy ? "log" : "linear";
}

/** Set the defaults; again when the surfaces have changed. */
export function setDefaults() {
  Object.assign(DEFAULTS, defaultView());
  DEFAULTS.scale = fittingScale();
}
setDefaults();

const OPTIONS = {
  view: ["3d", "contour", "heatmap"], scale: ["linear", "log"], limits: ["shared", "own"],
  theme: ["auto", "light", "dark"], metric: allMetrics, split: allSplits, plane: allPlanes,
};
export const state = { ...DEFAULTS };
export const listeners = [];

/** Change the view; listeners get the names of what changed. */
export function update(patch) {
  const changed = Object.keys(patch).filter((key) => JSON.stringify(patch[key]) !== JSON.stringify(state[key]));
  if (!changed.length) return;
  Object.assign(state, patch);
  scheduleFragment();
  for (const listener of listeners) listener(new Set(changed));
}

const numbers = (list) => list.map((value) => Number(value.toPrecision(5))).join(",");

function fragmentOf(view) {
  const fields = new URLSearchParams();
  for (const key of Object.keys(OPTIONS)) if (view[key] !== DEFAULTS[key]) fields.set(key, view[key]);
  if (!view.linked) fields.set("linked", "0");
  if (view.computed) fields.set("computed", "1");
  if (view.reference !== "") fields.set("reference", view.reference);
  if (!view.path) fields.set("path", "0");
  if (view.clip !== 1) fields.set("clip", numbers([view.clip]));
  if (view.pick) fields.set("pick", numbers(view.pick));
  if (view.zoom) fields.set("zoom", numbers([...view.zoom.x, ...view.zoom.y]));
  if (view.camera) {
    const { eye, center } = view.camera;
    fields.set("camera", numbers([eye.x, eye.y, eye.z, center.x, center.y, center.z]));
  }
  return fields.toString();
}

/** The list of `length` finite numbers in a field, or null. */
function readNumbers(fields, key, length) {
  const list = (fields.get(key) ?? "").split(",").map(Number);
  return fields.has(key) && list.length === length && list.every(Number.isFinite) ? list : null;
}

/** A view from a URL fragment; whatever isn't understood stays at its default. */
function viewOf(fragment) {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const view = { ...DEFAULTS };
  for (const [key, options] of Object.entries(OPTIONS)) {
    if (options.includes(fields.get(key))) view[key] = fields.get(key);
  }
  view.linked = fields.get("linked") !== "0";
  view.computed = fields.get("computed") === "1";
  view.path = fields.get("path") !== "0";
  const reference = fields.get("reference") ?? "";
  if (/^\d+$/.test(reference) && page.surfaces[reference]) view.reference = reference;
  const clip = readNumbers(fields, "clip", 1);
  if (clip) view.clip = Math.min(1, Math.max(0.05, clip[0]));
  view.pick = readNumbers(fields, "pick", 2);
  const zoom = readNumbers(fields, "zoom", 4);
  if (zoom) view.zoom = { x: zoom.slice(0, 2), y: zoom.slice(2) };
  const camera = readNumbers(fields, "camera", 6);
  if (camera) {
    const [x, y, z, a, b, c] = camera;
    view.camera = { eye: { x, y, z }, center: { x: a, y: b, z: c }, up: CAMERA.up };
  }
  return view;
}

let writing = null;

/** Keep the view in the address; not at every step of a drag, which browsers forbid. */
export function scheduleFragment() {
  clearTimeout(writing);
  writing = setTimeout(writeFragment, 200);
}

function writeFragment() {
  const fragment = fragmentOf(state);
  try {
    history.replaceState(null, "", fragment ? `#${fragment}` : "#");
  } catch {
    // A sandboxed frame (Jupyter) has no address of its own; the view then simply isn't kept in one.
  }
}

/** Take the view from the address, now and whenever it changes. */
export function followAddress() {
  Object.assign(state, viewOf(location.hash));
  window.addEventListener("hashchange", () => update(viewOf(location.hash)));
}

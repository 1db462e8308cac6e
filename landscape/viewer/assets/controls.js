// The form above the figures. Every control is a labelled form control that writes one field of the state.

import { span } from "./data.js";
import { button, element } from "./dom.js";
import { displayName, formatValue, shorten } from "./format.js";
import { limitsOf, logObstacle, shownEverywhere } from "./limits.js";
import { allMetrics, allPlanes, allSplits, page } from "./page.js";
import { resetView } from "./panels.js";
import { listeners, state, update } from "./state.js";

export const syncs = []; // bring the controls in line with the state

/** A choice among a few: radio buttons that look like one bar, or a menu where there are many or long names. */
function choiceControl(key, legend, options) {
  const long = options.length > 4 || options.some(([, text]) => text.length > 18);
  return long ? menu(key, legend, options) : segments(key, legend, options);
}

function segments(key, legend, options) {
  const inputs = options.map(([value]) => element("input", { type: "radio", name: key, value, id: `${key}-${value}`,
    onchange: () => update({ [key]: value }) }));
  syncs.push(() => inputs.forEach((input) => { input.checked = input.value === state[key]; }));
  const labels = options.map(([, text], index) =>
    element("label", {}, inputs[index], element("span", { textContent: text })));
  return element("fieldset", { className: "control", id: `control-${key}` },
    element("legend", { textContent: legend }), element("div", { className: "segments" }, ...labels));
}

function menu(key, legend, options) {
  const list = element("select", { id: key, name: key, onchange: () => update({ [key]: list.value }) },
    ...options.map(([value, text]) => element("option", { value, textContent: shorten(text, 40) })));
  syncs.push(() => { list.value = state[key]; });
  return element("div", { className: "control", id: `control-${key}` },
    element("label", { for: key, className: "legend", textContent: legend }), list);
}

function toggle(key, text) {
  const onchange = () => update({ [key]: input.checked });
  const input = element("input", { type: "checkbox", id: key, name: key, onchange });
  syncs.push(() => { input.checked = state[key]; });
  return element("label", { className: "toggle", id: `control-${key}` }, input, element("span", { textContent: text }));
}

function clipControl() {
  const input = element("input", { type: "range", id: "clip", name: "clip", min: 0.05, max: 1, step: 0.01,
    oninput: () => update({ clip: Number(input.value) }) });
  const output = element("output", { for: "clip", id: "clip-value" });
  syncs.push(() => {
    input.value = state.clip;
    const shown = shownEverywhere();
    const first = shown.find((choice) => choice.metric.difference) ?? shown[0]; // the reference has limits of its own
    const top = first && state.limits === "shared" ? formatValue(first.metric, limitsOf([first]).high) : "";
    const from = first?.metric.difference ? "beyond ±" : "above ";
    const text = state.clip === 1 ? "off" : top ? from + top : `at ${Math.round(100 * state.clip ** 3)} % of range`;
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  });
  const label = element("label", { for: "clip", className: "legend", textContent: "Clip " }, output);
  return element("div", { className: "control clip" }, label, input);
}

/** Coordinates by keyboard: the same read-out as a click. */
function pickControl() {
  const both = page.surfaces.some((surface) => surface.dim === 2);
  const steps = page.surfaces[0];
  const step = Number((span(steps.alpha) / Math.max(1, steps.alpha.length - 1)).toPrecision(3));
  const inputs = (both ? ["α", "β"] : ["α"]).map((name, axis) => {
    const input = element("input", { type: "number", step, placeholder: name, id: `pick-${axis}` });
    input.setAttribute("aria-label", `${name} to read out`);
    input.onchange = () => {
      const pick = [0, 1].map((one) => Number(inputs[one]?.value || 0));
      update({ pick: inputs.every((one) => one.value === "") ? null : pick });
    };
    return input;
  });
  const clear = button("×", "Clear the read-out point", () => update({ pick: null }));
  const jump = button("Cuts ↓", "Go to the cuts through this point", () => {
    document.getElementById("cuts").scrollIntoView({ behavior: "smooth", block: "center" });
  });
  syncs.push(() => {
    jump.disabled = !state.pick;
    inputs.forEach((input, axis) => { input.value = state.pick ? Number(state.pick[axis].toPrecision(6)) : ""; });
    clear.disabled = !state.pick;
  });
  return element("fieldset", { className: "control pick" }, element("legend", { textContent: "Read out at" }),
    element("div", { className: "row" }, ...inputs, clear, both ? jump : null));
}

const named = (names) => names.map((name) => [name, displayName(name)]);

/** The log scale, and in words why there is none. */
function scaleControl() {
  const control = segments("scale", "Scale", [["linear", "Linear"], ["log", "Log"]]);
  const note = element("span", { id: "scale-note", className: "hint" });
  control.append(note);
  const log = control.querySelector("#scale-log");
  log.setAttribute("aria-describedby", "scale-note");
  syncs.push(() => {
    note.textContent = logObstacle();
    log.disabled = Boolean(note.textContent);
    log.parentElement.title = note.textContent;
    if (log.disabled) control.querySelector("#scale-linear").checked = true;
  });
  return control;
}

export function startControls() {
  const flat = page.surfaces.filter((surface) => surface.dim === 2).length;
  const several = flat > 1 || (flat === 1 && page.surfaces.length > 1); // panels: all lines share one
  const planes = page.surfaces.some((surface) => surface.planes.length > 1);
  const interpolated = page.surfaces.some((surface) => surface.planes.some((plane) => plane.computed.includes("0")
    || plane.splits.some((split) => split.metrics.some((metric) => metric.computed))));
  const shown = [
    flat ? choiceControl("view", "View", [["3d", "3D"], ["contour", "Contour"], ["heatmap", "Heat map"]]) : null,
    allMetrics.length > 1 ? choiceControl("metric", "Quantity", named(allMetrics)) : null,
    scaleControl(),
    allSplits.length > 1 ? choiceControl("split", "Examples", named(allSplits)) : null,
    planes ? choiceControl("plane", "Plane", named(allPlanes)) : null,
    page.surfaces.length > 1 ? menu("reference", "Difference to", [["", "nothing"],
      ...page.surfaces.map((surface, index) => [String(index), surface.label])]) : null,
    several ? choiceControl("limits", "Value range", [["shared", "Shared"], ["own", "Own"]]) : null,
    clipControl(),
    pickControl(),
    element("div", { className: "control toggles" }, flat > 1 ? toggle("linked", "Link cameras and zoom") : null,
      interpolated ? toggle("computed", "Show computed points") : null,
      page.surfaces.some((surface) => surface.planes.some((plane) => plane.path)) ? toggle("path", "Show path") : null),
  ];
  const form = document.getElementById("controls");
  form.onsubmit = (event) => event.preventDefault();
  form.append(...shown.filter(Boolean));
  document.getElementById("page-controls").append(
    button("Reset view", "Camera, zoom, clip and read-out as at first", resetView),
    choiceControl("theme", "Theme", [["auto", "Auto"], ["light", "Light"], ["dark", "Dark"]]));
  listeners.push(syncControls);
  syncControls();
}

export function syncControls() {
  for (const sync of syncs) sync();
}

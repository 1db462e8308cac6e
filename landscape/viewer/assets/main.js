// Start: unpack Plotly, build the page, draw.

import { startControls } from "./controls.js";
import { startCuts } from "./cuts.js";
import { gridOf } from "./data.js";
import { element } from "./dom.js";
import { count } from "./format.js";
import { KEYS_HINT } from "./keys.js";
import { page } from "./page.js";
import { scheduleDraw, startPanels } from "./panels.js";
import { startPrinting } from "./print.js";
import { followAddress, listeners, state } from "./state.js";
import { startProvenance, startTable } from "./table.js";

/** Plotly's bundle travels compressed; the browser unpacks and runs it. */
async function loadPlotly() {
  const text = document.getElementById("plotly").textContent;
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < bytes.length; index += 1) bytes[index] = binary.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(element("script", { textContent: await new Response(stream).text() }));
  document.getElementById("plotly").remove();
}

/** Plotly measures text in 3D by reading canvases back; this hint makes that fast. */
function hintCanvases() {
  const original = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function getContext(kind, options) {
    return original.call(this, kind, kind === "2d" ? { willReadFrequently: true, ...options } : options);
  };
}

function applyTheme() {
  const dark = state.theme === "dark" || (state.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

export function summarize() {
  const grids = new Set(page.surfaces.map(gridOf));
  const grid = grids.size === 1 ? [...grids][0] : "different grids";
  const waiting = page.surfaces.filter((surface) => !surface.complete).length;
  document.getElementById("summary").textContent = [count(page.surfaces.length, "surface"), grid,
    waiting ? `${waiting} incomplete` : "", `made with ${page.generator}`].filter(Boolean).join(" · ");
}

export async function start() {
  followAddress();
  applyTheme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { applyTheme(); scheduleDraw(); });
  listeners.unshift((changed) => { if (changed.has("theme")) applyTheme(); });
  summarize();
  startControls();
  startCuts();
  document.getElementById("keys").textContent = KEYS_HINT;
  startTable();
  startProvenance();
  hintCanvases();
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))); // show the page first
  await loadPlotly();
  startPanels();
  startPrinting();
}

export const started = start();
started.catch((error) => {
  const status = document.getElementById("status");
  status.hidden = false;
  status.textContent = `This page could not be drawn (${error.message}). A browser from 2023 or later is needed.`;
});

// On paper: every figure as a picture of itself, which a sheet of any width can hold. A browser prints nothing of a
// WebGL canvas, and Plotly's drawings have a size in pixels.

import { element } from "./dom.js";
import { panels } from "./panels.js";

/** Plotly's drawings of a figure, one over the other, in a box of its proportions. */
function stillOf(plot) {
  const { width, height } = plot._fullLayout;
  const box = element("div", { className: "still" });
  box.style.aspectRatio = `${width} / ${height}`;
  for (const layer of plot.querySelectorAll(".svg-container > .main-svg, .svg-container > .gl-container")) {
    box.append(...(layer.matches("svg") ? [drawingOf(layer, width, height)] : [...scenesOf(plot, width, height)]));
  }
  return box;
}

function drawingOf(svg, width, height) {
  const copy = svg.cloneNode(true);
  copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const side of ["width", "height"]) copy.removeAttribute(side);
  copy.removeAttribute("style");
  for (const node of copy.querySelectorAll("*")) rename(node);
  return copy;
}

/** Clips and gradients are called by names, and those of a figure that isn't shown have no effect. */
function rename(node) {
  for (const { name, value } of [...node.attributes]) {
    if (name === "id") node.id = `still-${value}`;
    else if (value.includes("url(")) node.setAttribute(name, value.replace(/(url\(['"]?[^#)]*#)/g, "$1still-"));
    else if (name.endsWith("href")) node.setAttribute(name, value.replace(/^#/, "#still-"));
  }
}

/** Pictures of the 3D scenes, where they stand. */
function* scenesOf(plot, width, height) {
  const scene = plot._fullLayout.scene?._scene;
  if (!scene) return;
  const picture = element("img", { src: scene.toImage("png"), alt: "" });
  const [across, down] = [(value) => `${(100 * value) / width}%`, (value) => `${(100 * value) / height}%`];
  const { offsetLeft, offsetTop, offsetWidth, offsetHeight } = scene.container;
  Object.assign(picture.style, { left: across(offsetLeft), width: across(offsetWidth), top: down(offsetTop),
    height: down(offsetHeight) });
  yield picture;
}

/** Pictures in place of the figures; those that were never in sight are drawn for it. */
function showStills() {
  for (const panel of panels) if (panel.stale || !panel.drawn) panel.deck.draw(panel);
  for (const plot of document.querySelectorAll(".plot, .cut")) if (plot._fullLayout) plot.after(stillOf(plot));
  document.documentElement.classList.add("on-paper");
}

function removeStills() {
  document.documentElement.classList.remove("on-paper");
  for (const still of document.querySelectorAll(".still")) still.remove();
}

export function startPrinting() {
  window.addEventListener("beforeprint", showStills);
  window.addEventListener("afterprint", removeStills);
}

// Small helpers that build the page. Text always goes through textContent: names are never read as HTML.

import { shorten } from "./format.js";

export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "for" || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const button = (text, label, onclick) =>
  element("button", { type: "button", textContent: text, title: label, "aria-label": label, onclick });

/** Hand a file to the user; its content as text or as a list of texts and arrays. */
export function download(name, content, type) {
  const url = URL.createObjectURL(new Blob([content].flat(), { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A name that every file system takes. */
export const fileName = (text) => shorten(text.replace(/[^\p{L}\p{N}._-]+/gu, "_").replace(/^[._]+/, ""), 80) || "surface";

/** Whether there is WebGL, and whether it is drawn in software, where every pixel counts; null without. */
export function probeWebgl() {
  const gl = document.createElement("canvas").getContext("webgl");
  if (!gl) return null;
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const renderer = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : gl.getParameter(gl.RENDERER);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return { software: /swiftshader|llvmpipe|softpipe|basic render/i.test(String(renderer)) };
}

/** Let the wheel scroll the page until the user has pressed the figure: then it zooms, until the pointer leaves. */
export function keepWheelForPage(plot) {
  let held = false;
  plot.addEventListener("pointerdown", () => { held = true; });
  plot.addEventListener("pointerleave", () => { held = false; });
  const keep = (event) => { if (!held && !event.ctrlKey) event.stopPropagation(); };
  plot.addEventListener("wheel", keep, { capture: true });
}

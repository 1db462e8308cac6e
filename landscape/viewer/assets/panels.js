// All panels, one per surface and one for all lines. Panels are drawn when they come into sight.

import { page } from "./page.js";
import { Panel } from "./panel.js";
import { listeners, MANY_PANELS, state, update } from "./state.js";

const GL_LIMIT = 12; // browsers drop the oldest WebGL context at about 16
export const panels = [];

/** Whether one more WebGL context may be made; takes one that is out of sight if need be. */
function makeRoom() {
  const live = panels.filter((panel) => panel.holdsContext);
  if (live.length < GL_LIMIT) return true;
  const idle = live.find((panel) => !panel.gl) ?? live.find((panel) => !panel.visible);
  idle?.release([idle.stages.gl]);
  return Boolean(idle);
}

let busy = 0;
export const isBusy = () => busy > 0;

export const drawAfterPanels = []; // what else is drawn whenever panels are

/** Do some drawing; `data-busy` of the page counts what is under way, and what fails is over, too. */
async function whileBusy(draw) {
  document.documentElement.dataset.busy = busy += 1;
  try {
    await draw();
  } finally {
    document.documentElement.dataset.busy = busy -= 1;
  }
}

/** Draw one panel. */
async function drawNow(panel) {
  panel.stale = false;
  await whileBusy(() => panel.draw());
}

const nextFrame = () => new Promise(requestAnimationFrame);

function inSight({ node }) {
  const { top, bottom } = node.getBoundingClientRect();
  return bottom > 0 && top < window.innerHeight;
}

/** Draw what is outdated: what the user sees first; the rest a frame later, unless there is news by then. */
async function drawStale() {
  const stale = panels.filter((panel) => panel.visible && panel.stale);
  const seen = stale.filter(inSight);
  try {
    for (const panel of seen) await drawNow(panel);
    for (const draw of drawAfterPanels) await draw();
  } finally {
    document.documentElement.dataset.sight = "drawn";
  }
  if (seen.length === stale.length) return;
  await nextFrame();
  for (const panel of stale) if (panel.stale && !scheduled) await drawNow(panel);
}

let scheduled = false;

/** Draw what is in sight and leave the rest for when it comes into sight; at most once a frame. */
export function scheduleDraw(outdated = panels) {
  for (const panel of outdated) panel.stale = true;
  if (scheduled) return;
  scheduled = true;
  document.documentElement.dataset.sight = "outdated";
  whileBusy(async () => {
    await nextFrame();
    scheduled = false;
    await drawStale();
  });
}

const deck = { draw: drawNow, makeRoom, reset: resetView };

/** A panel for each surface and one for all lines, where the first of them was given; those that are there already stay as they are. */
export function arrangePanels() {
  const lines = page.surfaces.filter((surface) => surface.dim === 1);
  const groups = page.surfaces.filter((surface) => surface.dim === 2 || surface === lines[0])
    .map((surface) => (surface.dim === 2 ? [surface] : lines));
  const shown = (surfaces) => panels.find((panel) => panel.surfaces.length === surfaces.length
    && panel.surfaces.every((surface, index) => surface === surfaces[index]));
  const wanted = groups.map((surfaces) => shown(surfaces) ?? new Panel(surfaces, deck));
  for (const panel of panels.filter((one) => !wanted.includes(one))) {
    if (panel.lines) wanted.find((one) => one.lines).zoomed = panel.zoomed;
    panel.release();
    panel.node.remove();
  }
  const added = wanted.filter((panel) => !panels.includes(panel));
  panels.splice(0, panels.length, ...wanted);
  const grid = document.getElementById("panels");
  grid.dataset.count = panels.length;
  panels.forEach((panel, index) => {
    if (grid.children[index] !== panel.node) grid.insertBefore(panel.node, grid.children[index] ?? null);
  });
  for (const panel of added) {
    panelSight.observe(panel.node);
    panelResize.observe(panel.figureBox);
  }
}

/** Draw what has come into sight; the first time, that ends the waiting. */
async function drawFirst() {
  const drawn = whileBusy(drawStale);
  while (document.documentElement.dataset.sight !== "drawn") await nextFrame();
  const status = document.getElementById("status");
  if (!status.hidden) performance.mark("figures drawn");
  status.hidden = true;
  await drawn;
}

let [panelSight, panelResize] = [null, null]; // draw what comes into sight, and anew what changed its size

export function startPanels() {
  panelSight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.panel.visible = isIntersecting;
      target.panel.stale ||= !target.panel.drawn;
    }
    drawFirst();
  }, { rootMargin: page.surfaces.length > MANY_PANELS ? "150px 0px" : "1500px 0px" });
  panelResize = new ResizeObserver((entries) => {
    for (const { panel } of entries.map((entry) => entry.target)) {
      const { width, height } = panel.size;
      if (panel.drawn?.width !== width || panel.drawn.height !== height) {
        scheduleDraw([panel]);
      }
    }
  });
  arrangePanels();
}

const REDRAWN_BY = ["view", "metric", "scale", "split", "plane", "limits", "clip", "computed", "theme", "pick", "zoom",
  "reference", "path", "linked"];

listeners.push((changed) => {
  if (changed.has("camera") || (changed.has("linked") && state.linked)) {
    for (const panel of panels) if (state.linked) panel.follow(state.camera);
  }
  if (REDRAWN_BY.some((key) => changed.has(key))) scheduleDraw();
});

export function resetView() {
  for (const panel of panels) {
    panel.zoomed = null;
    panel.follow(null);
  }
  update({ camera: null, zoom: null, clip: 1, pick: null });
  scheduleDraw();
}

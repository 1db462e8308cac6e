// While surfaces are being computed: take the server's news and redraw; camera, settings and scroll stay as they are.
// Only in pages that `landscape.viewer.live` serves.

import { startControls, syncControls, syncs } from "./controls.js";
import { element } from "./dom.js";
import { count, formatNumber } from "./format.js";
import { limitsOf, shownEverywhere, usesLog } from "./limits.js";
import { started, summarize } from "./main.js";
import { allMetrics, allPlanes, allSplits, collectNames, page, visible } from "./page.js";
import { arrangePanels, isBusy, panels, scheduleDraw } from "./panels.js";
import { DEFAULTS, listeners, scheduleFragment, setDefaults, state } from "./state.js";
import { startProvenance, startTable } from "./table.js";

const REST = 4; // between two redraws, in times of how long the last one took
const LONGEST_RETRY = 60_000; // milliseconds
const slots = new Map(page.live.slots.map((slot, index) => [slot, page.surfaces[index]]));
const chosen = new Set(new URLSearchParams(location.hash.slice(1)).keys()); // settings that aren't left to the page
listeners.push((changed) => { for (const key of changed) chosen.add(key); });

const live = { version: page.live.version, source: null, retry: 2000, progress: page.live.progress,
  news: null, ready: false, pressed: false, restUntil: 0, timer: null, bar: null };

// ------------------------------------------------------------------------------------------ what is shown

/** What the controls above the figures depend on. */
function shape() {
  const holes = (plane) => plane.computed.includes("0")
    || plane.splits.some((split) => split.metrics.some((metric) => metric.computed));
  return JSON.stringify([allPlanes, allSplits, allMetrics, page.surfaces.map((surface) =>
    [surface.label, surface.dim, surface.planes.map((plane) => [holes(plane), Boolean(plane.path)])])]);
}

/** Put new surfaces in the places of old ones, everywhere; returns the panels that show something new. */
function replaceSurfaces(news) {
  const replaced = new Map();
  const before = page.surfaces;
  const reference = [...slots].find(([, surface]) => surface === before[state.reference])?.[0];
  for (const [name, surface] of Object.entries(news)) {
    const slot = name.startsWith("surface-") ? Number(name.slice("surface-".length)) : null;
    if (slot === null) continue;
    replaced.set(slots.get(slot), surface);
    slots.set(slot, surface);
  }
  page.surfaces = [...slots.keys()].sort((one, other) => one - other).map((slot) => slots.get(slot));
  const stale = panels.filter((panel) => panel.surfaces.some((surface) => replaced.has(surface)));
  for (const panel of stale) {
    panel.surfaces = panel.surfaces.map((surface) => replaced.get(surface) ?? surface);
    panel.name();
    if (panel.hovered) panel.hovered[0] = replaced.get(panel.hovered[0]) ?? panel.hovered[0];
  }
  if (reference !== undefined) state.reference = String(page.surfaces.indexOf(slots.get(reference)));
  // Figures know surfaces by their numbers, and all of them know the reference.
  return page.surfaces.length !== before.length || reference !== undefined ? panels : stale;
}

/** Settings that the user left alone follow the page's defaults, which depend on the values. */
function followDefaults() {
  const before = { ...DEFAULTS };
  setDefaults();
  for (const [key, value] of Object.entries(DEFAULTS)) {
    if (!chosen.has(key) && state[key] === before[key]) state[key] = value;
  }
}

function rebuildControls() {
  const focused = document.activeElement?.id;
  for (const id of ["controls", "page-controls"]) document.getElementById(id).replaceChildren();
  syncs.length = 0;
  listeners.splice(listeners.indexOf(syncControls), 1);
  startControls();
  if (focused) document.getElementById(focused)?.focus();
}

/** The table anew, sorted and scrolled as it was. */
function rebuildTable() {
  const section = document.getElementById("metrics");
  const sorted = section.querySelector("th[aria-sort]");
  const [name, order] = [sorted?.textContent, sorted?.getAttribute("aria-sort")];
  const left = section.querySelector(".scroll")?.scrollLeft ?? 0;
  section.replaceChildren();
  startTable();
  const head = name && [...section.querySelectorAll("th:has(button)")].find((one) => one.textContent === name);
  for (let turn = 0; head && turn < 2 && head.getAttribute("aria-sort") !== order; turn += 1) {
    head.querySelector("button").click();
  }
  if (section.querySelector(".scroll")) section.querySelector(".scroll").scrollLeft = left;
}

function rebuildProvenance() {
  for (const section of document.querySelectorAll("#provenance > section")) section.remove();
  startProvenance();
}

/** Bring the whole page up to date. */
function refresh() {
  const { news } = live;
  live.news = null;
  const before = { shape: shape(), limits: JSON.stringify(limitsOf(shownEverywhere())), log: usesLog() };
  page.columns = news.columns ?? page.columns;
  let stale = replaceSurfaces(news);
  collectNames();
  followDefaults();
  if (shape() !== before.shape) rebuildControls();
  else if (document.activeElement?.type !== "number") syncControls(); // a number that is being typed stays
  arrangePanels();
  summarize();
  rebuildTable();
  rebuildProvenance();
  if (news.title) {
    document.getElementById("title").textContent = page.live.title = news.title;
    showProgress(); // the tab's title
  }
  const limits = JSON.stringify(limitsOf(shownEverywhere()));
  if (usesLog() !== before.log || (state.limits === "shared" && limits !== before.limits)) stale = panels;
  scheduleDraw(stale.filter((panel) => panels.includes(panel)));
  scheduleFragment(); // what is no default any more
  rest(performance.now());
}

/** Leave time between redraws: on a machine without a GPU they would slow the computation down. */
function rest(began) {
  if (isBusy()) return setTimeout(rest, 50, began);
  const now = performance.now();
  live.restUntil = now + REST * (now - began);
  document.documentElement.dataset.refreshed = Number(document.documentElement.dataset.refreshed ?? 0) + 1;
  return null;
}

/** Refresh as soon as nothing is being drawn or dragged; what comes in between is shown together. */
function refreshSoon() {
  clearTimeout(live.timer);
  if (!live.news) return;
  const over = live.progress.state !== "computing";
  if (live.ready && !live.pressed && !isBusy() && (over || performance.now() >= live.restUntil)) refresh();
  else live.timer = setTimeout(refreshSoon, 100);
}

// ------------------------------------------------------------------------------------------ how far it is

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** What is known about the computation, in words. */
function progressText({ name, number, of, done, expected, plane, planes, error, left, changed }) {
  return [
    of > 1 ? `${number} of ${of}: ${name}` : name,
    planes > 1 ? `plane ${plane} of ${planes}` : "",
    expected ? `${done} of about ${expected} points` : done ? `${count(done, "point")} computed` : "",
    error !== null && error !== undefined ? `stated error ${formatNumber(100 * error, 2)} % of the range` : "",
    left === null || left === undefined ? "" : `about ${duration(left)} left${of > 1 ? " for this one" : ""}`,
    changed ? `last news ${new Date(1000 * changed).toLocaleTimeString()}` : "",
  ].filter(Boolean).join(" · ");
}

const STATES = {
  computing: "Computing",
  finished: "Finished",
  stopped: "Stopped before the end; the same command goes on. What is here stays",
  lost: "No connection to the computation: it was ended, or the way to it is cut. What is here stays; trying again",
};

function showProgress(name = live.progress.state) {
  const { done, expected, page: file, number = 1, of = 1 } = live.progress;
  const share = expected ? (number - 1 + Math.min(1, done / expected)) / of : null;
  document.documentElement.dataset.live = name;
  live.bar.state.textContent = STATES[name];
  live.bar.text.textContent = name === "finished" ? (file ? `the same page, to keep: ${file}` : "")
    : name === "computing" ? progressText(live.progress) : "";
  live.bar.progress.hidden = name !== "computing";
  if (share === null) live.bar.progress.removeAttribute("value");
  else live.bar.progress.value = share;
  const running = name === "computing" && share !== null ? `${Math.floor(100 * share)} % · ` : "";
  document.title = running + page.live.title;
}

function buildBar() {
  const progress = element("progress", { max: 1, "aria-label": "Share of the points that are computed" });
  const [words, text] = [element("strong", { role: "status" }), element("span", { className: "muted" })];
  live.bar = { progress, state: words, text };
  const bar = element("section", { id: "live", className: "live", "aria-label": "Computation" }, words, text, progress);
  document.getElementById("controls").before(bar);
}

// ------------------------------------------------------------------------------------------ news

function take(event) {
  const news = JSON.parse(event.data, visible);
  live.version = event.lastEventId;
  live.retry = 2000;
  const { progress, ...more } = news;
  if (progress) live.progress = progress;
  if (live.progress.state !== "computing") live.source.close();
  showProgress();
  if (Object.keys(more).length) live.news = { ...live.news, ...more };
  refreshSoon();
}

function connect() {
  live.source = new EventSource(`events?after=${live.version}`);
  live.source.onmessage = take;
  live.source.onerror = () => {
    live.source.close();
    showProgress("lost");
    setTimeout(connect, live.retry);
    live.retry = Math.min(LONGEST_RETRY, 2 * live.retry);
  };
}

/** A refresh in the middle of a drag would throw it off. */
function holdWhilePressed() {
  for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
    document.addEventListener(name, (event) => { live.pressed = event.buttons !== 0; }, true);
  }
}

buildBar();
showProgress();
holdWhilePressed();
connect();
started.then(() => {
  live.ready = true;
  refreshSoon();
});

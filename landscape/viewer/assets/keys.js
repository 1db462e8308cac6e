// A figure that has the focus obeys the keyboard: what the mouse can do, keys can.

import { indexAt, nearest, place } from "./data.js";
import { firstCamera } from "./figure3d.js";
import { edges } from "./figureflat.js";
import { lineEnds } from "./figurelines.js";
import { CAMERA, state, update } from "./state.js";

const TURN = Math.PI / 36; // 5°
export const KEYS_HINT = "Keyboard, on a figure: arrows turn it or move along it, + and − zoom, Shift with arrows moves the "
  + "read-out point, Escape removes it, 0 resets the view.";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export function onKey(panel, event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const arrow = ARROWS[event.key];
  const zoom = { "+": 0.85, "=": 0.85, "-": 1 / 0.85 }[event.key];
  if (arrow && event.shiftKey) movePick(panel, arrow);
  else if (arrow || zoom) panel.gl ? turn(panel, arrow ?? [0, 0], zoom ?? 1) : shift(panel, arrow ?? [0, 0], zoom ?? 1);
  else if (event.key === "Escape") update({ pick: null });
  else if (event.key === "0" || event.key === "Home") panel.deck.reset();
  else return;
  event.preventDefault();
}

/** The read-out point, one grid point further; it starts at the centre. */
function movePick(panel, [right, up]) {
  const [surface] = panel.surfaces;
  const step = (coordinates, value, by) => {
    const index = nearest(coordinates, value) + by;
    return coordinates[Math.min(coordinates.length - 1, Math.max(0, index))];
  };
  if (!state.pick) return update({ pick: place(surface, indexAt(surface, [0, 0])) });
  return update({ pick: [step(surface.alpha, state.pick[0], right), step(surface.beta, state.pick[1], up)] });
}

/** The camera, around its centre. */
function turn(panel, [right, up], zoom) {
  const { eye, center } = panel.camera ?? firstCamera(panel.size);
  const [x, y, z] = ["x", "y", "z"].map((axis) => eye[axis] - center[axis]);
  const distance = Math.min(8, Math.max(0.4, Math.hypot(x, y, z) * zoom));
  const azimuth = Math.atan2(y, x) + right * TURN;
  const height = Math.min(1.54, Math.max(-1.54, Math.atan2(z, Math.hypot(x, y)) + up * TURN));
  const flat = distance * Math.cos(height);
  const camera = { up: CAMERA.up, center, eye: { x: center.x + flat * Math.cos(azimuth),
    y: center.y + flat * Math.sin(azimuth), z: center.z + distance * Math.sin(height) } };
  if (state.linked) update({ camera });
  else panel.follow(camera);
}

/** The part of a flat figure that is shown. */
function shift(panel, [right, up], zoom) {
  const [surface] = panel.surfaces;
  const now = panel.lines ? { x: panel.zoomed ?? lineEnds(panel.choices()) }
    : (state.linked ? state.zoom : panel.zoomed) ?? { x: edges(surface.alpha), y: edges(surface.beta) };
  const moved = ([from, to], by) => {
    const [middle, half] = [(from + to) / 2 + (by * (to - from)) / 10, (zoom * (to - from)) / 2];
    return [middle - half, middle + half];
  };
  panel.zoom(panel.lines ? { x: moved(now.x, right) } : { x: moved(now.x, right), y: moved(now.y, up) });
}

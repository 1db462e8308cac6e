import assert from "node:assert/strict";
import { test } from "node:test";

import { isolines } from "../../landscape/viewer/assets/isolines.js";
import { aspect, heightAt, verticesOf } from "../../landscape/viewer/assets/mesh.js";
import { surfaceOf } from "./made.js";

/** Pieces of a list of lines parted by nulls. */
function piecesOf({ x, y, z }) {
  const pieces = [[]];
  x.forEach((value, index) => {
    if (value === null) pieces.push([]);
    else pieces.at(-1).push([value, y[index], z[index]]);
  });
  return pieces.filter((piece) => piece.length);
}

function linesOf(count, heightOf) {
  const surface = surfaceOf(Array.from({ length: count }, () => Array(count).fill(0)));
  const { x, y } = verticesOf(surface);
  const heights = x.map((alpha, index) => heightOf(alpha, y[index]));
  const finite = heights.filter(Number.isFinite);
  const [from, to] = [Math.min(...finite), Math.max(...finite)];
  return { surface, heights, from, to, pieces: piecesOf(isolines(surface, heights, from, to, aspect(surface))) };
}

test("of a tilted plane: nine straight lines from edge to edge, just above it", () => {
  const { surface, heights, from, to, pieces } = linesOf(9, (alpha) => 5 * alpha);
  assert.equal(pieces.length, 9);
  for (const piece of pieces) {
    assert.equal(piece.length, 9);
    assert.ok(piece.every(([alpha]) => Math.abs(alpha - piece[0][0]) < 1e-9));
    for (const [alpha, beta, z] of piece) {
      const above = z - heightAt(surface, heights, [alpha, beta]);
      assert.ok(above > 0 && above < 0.05 * (to - from));
    }
  }
});

test("of a bowl: closed rings around the middle where they fit, of the right radius", () => {
  const { pieces, to } = linesOf(41, (alpha, beta) => alpha ** 2 + beta ** 2);
  const rings = pieces.filter((piece) => Math.hypot(piece[0][0] - piece.at(-1)[0], piece[0][1] - piece.at(-1)[1]) < 1e-9);
  assert.equal(rings.length, 5); // levels 0.2 to 1 of a bowl that is 2 high lie inside the unit circle
  rings.forEach((ring, index) => {
    const radius = Math.sqrt((to * (index + 1)) / 10);
    for (const [alpha, beta] of ring) assert.ok(Math.abs(Math.hypot(alpha, beta) - radius) < 0.03);
  });
});

test("a hole ends lines and loses none of the others", () => {
  const whole = linesOf(9, (alpha) => alpha).pieces;
  const torn = linesOf(9, (alpha, beta) => (alpha === 0 && beta === 0 ? NaN : alpha)).pieces;
  assert.equal(torn.length, whole.length + 3); // the middle line and its neighbours are cut in two
});

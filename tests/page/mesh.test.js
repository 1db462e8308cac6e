import assert from "node:assert/strict";
import { test } from "node:test";

import { aspect, cellOf, densely, heightAt, trianglesOf, verticesOf } from "../../landscape/viewer/assets/mesh.js";
import { numbersFrom, randomGrid, surfaceOf } from "./made.js";

const BILINEAR = (alpha, beta) => 2 - alpha + 3 * beta + 0.5 * alpha * beta;

test("heights between the points: exact for what is bilinear", () => {
  const surface = surfaceOf(randomGrid(3, 7));
  const { x, y } = verticesOf(surface);
  const heights = x.map((alpha, index) => BILINEAR(alpha, y[index]));
  const source = numbersFrom(4);
  for (let k = 0; k < 200; k += 1) {
    const at = [2 * source.next().value - 1, 2 * source.next().value - 1];
    assert.ok(Math.abs(heightAt(surface, heights, at) - BILINEAR(...at)) < 1e-12);
  }
  assert.ok(Number.isNaN(heightAt(surface, heights, [1.01, 0])));
});

test("triangles cover the square once and face up", () => {
  const surface = surfaceOf(randomGrid(5, 9));
  const { x, y } = verticesOf(surface);
  const { i, j, k } = trianglesOf(surface, surface.planes[0].splits[0].metrics[0].values);
  const areas = i.map((p, n) => ((x[j[n]] - x[p]) * (y[k[n]] - y[p]) - (x[k[n]] - x[p]) * (y[j[n]] - y[p])) / 2);
  assert.equal(areas.length, 2 * 8 * 8);
  assert.ok(areas.every((area) => area > 0));
  assert.ok(Math.abs(areas.reduce((sum, area) => sum + area) - 4) < 1e-12);
});

test("a hole takes the triangles that it is a corner of, and leaves half a cell", () => {
  const values = randomGrid(6, 4).flat();
  values[5] = NaN;
  const { i, j, k } = trianglesOf(surfaceOf(randomGrid(6, 4)), values);
  assert.ok(![...i, ...j, ...k].includes(5));
  assert.equal(i.length, 2 * 9 - 4);
});

test("cells", () => {
  assert.deepEqual(cellOf([0, 1, 4], 2.5), [1, 0.5]);
  assert.deepEqual(cellOf([0, 1, 4], 4), [1, 1]);
  assert.deepEqual(cellOf([0, 1, 4], 4.1), [-1, 0]);
  assert.deepEqual(cellOf([7], 3), [0, 0]);
});

test("a path is followed in steps of half a cell at most, through its own places", () => {
  const surface = surfaceOf(randomGrid(7, 5));
  const places = [[-1, -1], [0.3, 0.8], [1, 0]];
  const points = densely(surface, places);
  for (const one of places) assert.ok(points.some((point) => Math.hypot(point[0] - one[0], point[1] - one[1]) < 1e-12));
  points.slice(1).forEach((point, index) => {
    assert.ok(Math.hypot(point[0] - points[index][0], point[1] - points[index][1]) <= 0.25 + 1e-12);
  });
});

test("the box keeps proportions up to two", () => {
  const { x, y } = aspect({ alpha: [0, 1], beta: [0, 1.5] });
  assert.ok(Math.abs(y / x - 1.5) < 1e-12 && Math.abs(x * y - 1) < 1e-12);
});

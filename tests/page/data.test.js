import assert from "node:assert/strict";
import { test } from "node:test";

import {
  census, extremum, finiteOr, gridOf, indexAt, indicesAt, nearest, place, proportion, selectPlain, span, valuesOf,
} from "../../landscape/viewer/assets/data.js";
import { surfaceOf, WANTED } from "./made.js";

test("values: null is not known, listed ones diverged", () => {
  const surface = surfaceOf([[1, null], [null, 4]], { diverged: [2] });
  const choice = selectPlain(surface, WANTED);
  assert.deepEqual([...choice.values], [1, NaN, Infinity, 4]);
  assert.equal(valuesOf(choice.metric), choice.values); // made once
  assert.deepEqual(census(choice), { diverged: 1, unknown: 1, computed: 4, all: 4 });
  assert.equal(extremum(choice), 0);
});

test("the best accuracy is the highest, and nothing is best of nothing", () => {
  assert.equal(extremum(selectPlain(surfaceOf([[0.1, 0.9], [0.5, 0.2]], { unit: "fraction" }), WANTED)), 1);
  assert.equal(extremum(selectPlain(surfaceOf([[null, null]]), WANTED)), -1);
});

test("a flat index and its place are each other's inverse", () => {
  const surface = surfaceOf(Array.from({ length: 5 }, () => [0, 0, 0]));
  for (let index = 0; index < 15; index += 1) {
    const at = place(surface, index);
    assert.equal(indexAt(surface, at), index);
    assert.deepEqual(indicesAt(surface, at), [Math.floor(index / 3), index % 3]);
  }
  assert.equal(nearest([0, 1, 5], 2.9), 1);
});

test("a plane that is absent is the first one, a split or metric that is absent is said to be", () => {
  const surface = surfaceOf([[1, 2], [3, 4]]);
  assert.equal(selectPlain(surface, { ...WANTED, plane: "another" }).plane, surface.planes[0]);
  assert.match(selectPlain(surface, { ...WANTED, split: "train" }).missing, /no “train” examples/);
  assert.match(selectPlain(surface, { ...WANTED, metric: "lambda_max" }).missing, /no “λmax” on test/);
});

test("sizes", () => {
  assert.equal(gridOf(surfaceOf([[1], [2], [3]])), "3 points");
  assert.equal(gridOf(surfaceOf([[1, 2], [3, 4]])), "2 × 2 points");
  assert.equal(span([4]), 1); // one point still has a scale
  assert.equal(proportion({ alpha: [0, 1], beta: [0, 9] }), 2);
  assert.deepEqual([1, NaN].map(finiteOr(null)), [1, null]);
});

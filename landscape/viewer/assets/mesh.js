// A surface as triangles over its grid points, and heights between them. Vertex numbers are flat indices.

// @ts-check
/** @import { Grid, Sides, Triangles } from "./types.js" */

import { place, proportion, span } from "./data.js";

const meshes = new WeakMap();

/**
 * Corners of every grid point: {x, y}, one number a vertex.
 * @param {Grid} surface
 * @returns {{ x: number[], y: number[] }}
 */
export function verticesOf(surface) {
  if (!meshes.has(surface)) {
    const all = surface.alpha.length * surface.beta.length;
    const places = Array.from({ length: all }, (_, index) => place(surface, index));
    meshes.set(surface, { x: places.map(([alpha]) => alpha), y: places.map(([, beta]) => beta) });
  }
  return meshes.get(surface);
}

/**
 * Triangles {i, j, k} whose corners are all finite, wound so that they face up. Each cell is cut along the
 * diagonal whose ends differ less, which follows ridges and valleys.
 * @param {Grid} surface
 * @param {ArrayLike<number> & object} values
 * @returns {Triangles}
 */
export function trianglesOf(surface, values) {
  if (meshes.has(values)) return meshes.get(values);
  /** @type {number[][]} */
  const [i, j, k] = [[], [], []];
  const add = (...corners) => {
    if (!corners.every((corner) => Number.isFinite(values[corner]))) return;
    [i, j, k].forEach((list, position) => { list.push(corners[position]); });
  };
  const width = surface.beta.length;
  for (let a = 0; a + 1 < surface.alpha.length; a += 1) {
    for (let b = 0; b + 1 < width; b += 1) {
      const [p, q, r, s] = [a * width + b, (a + 1) * width + b, (a + 1) * width + b + 1, a * width + b + 1];
      // With a hole in a corner, the triangle of the other three remains.
      const straight = Math.abs(values[p] - values[r]) <= Math.abs(values[q] - values[s]);
      const along = Number.isFinite(values[q]) && Number.isFinite(values[s]) ? straight : true;
      if (along && Number.isFinite(values[p]) && Number.isFinite(values[r])) { add(p, q, r); add(p, r, s); }
      else { add(p, q, s); add(q, r, s); }
    }
  }
  meshes.set(values, { i, j, k });
  return meshes.get(values);
}

/**
 * Height at any place by bilinear interpolation; NaN outside and beside holes.
 * @param {Grid} surface
 * @param {ArrayLike<number>} heights
 * @param {[number, number]} place
 * @returns {number}
 */
export function heightAt(surface, heights, [alpha, beta]) {
  const [i, s] = cellOf(surface.alpha, alpha);
  const [j, t] = cellOf(surface.beta, beta);
  if (i < 0 || j < 0) return NaN;
  const width = surface.beta.length;
  const at = (m, n, weight) => (weight ? weight * heights[m * width + n] : 0);
  return at(i, j, (1 - s) * (1 - t)) + at(i + 1, j, s * (1 - t)) + at(i, j + 1, (1 - s) * t) + at(i + 1, j + 1, s * t);
}

/**
 * The cell that holds `value` and where in it, 0 to 1; -1 outside.
 * @param {number[]} coordinates
 * @param {number} value
 * @returns {[number, number]}
 */
export function cellOf(coordinates, value) {
  if (coordinates.length === 1) return [0, 0];
  const slack = 1e-9 * span(coordinates);
  if (!(value >= coordinates[0] - slack && value <= coordinates[coordinates.length - 1] + slack)) return [-1, 0];
  let cell = 0;
  while (cell + 2 < coordinates.length && coordinates[cell + 1] <= value) cell += 1;
  const share = (value - coordinates[cell]) / (coordinates[cell + 1] - coordinates[cell]);
  return [cell, Math.min(1, Math.max(0, share))];
}

/**
 * Points along straight lines through `places`, close enough to follow the surface.
 * @param {Grid} surface
 * @param {[number, number][]} places
 * @returns {number[][]}
 */
export function densely(surface, places) {
  const step = Math.min(...[surface.alpha, surface.beta].map((one) => span(one) / Math.max(1, one.length - 1))) / 2;
  return places.flatMap((end, index) => {
    if (!index) return [end];
    const start = places[index - 1];
    const parts = Math.min(200, Math.max(1, Math.ceil(Math.hypot(end[0] - start[0], end[1] - start[1]) / step)));
    return Array.from({ length: parts }, (_, part) =>
      start.map((value, axis) => value + ((end[axis] - value) * (part + 1)) / parts));
  });
}

/**
 * Sides of the box.
 * @param {Grid} surface
 * @returns {Sides}
 */
export function aspect(surface) {
  const ratio = proportion(surface);
  const scale = 1 / Math.sqrt(ratio);
  return { x: scale, y: ratio * scale, z: 0.72 };
}

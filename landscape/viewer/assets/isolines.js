// Lines of equal height on a mesh: marching squares, chained from cell to cell. A crossing is named by the grid
// edge that it lies on: twice the flat index of where the edge starts, plus 1 if the edge runs along beta.

// @ts-check
/** @import { Grid, Sides } from "./types.js" */

import { place, span } from "./data.js";

const LEVELS_3D = 10; // bands between the lines
const LIFT = 0.01; // of the lines above the mesh, as a share of the box: in the mesh half of a line would be buried

/**
 * Lines between heights `from` and `to` as Plotly's x, y, z, pieces parted by null; `sides` are the box's own.
 * @param {Grid} surface
 * @param {number[]} heights
 * @param {number} from
 * @param {number} to
 * @param {Sides} sides
 */
export function isolines(surface, heights, from, to, sides) {
  const lines = { x: [], y: [], z: [] };
  const scale = [sides.x / span(surface.alpha), sides.y / span(surface.beta), sides.z / (to - from)];
  for (let step = 1; step < LEVELS_3D; step += 1) {
    const level = from + (step * (to - from)) / LEVELS_3D;
    for (const chain of chains(linksAt(surface, heights, level))) {
      for (const edge of chain) {
        const point = crossing(surface, heights, edge, level, scale);
        ["x", "y", "z"].forEach((axis, index) => { lines[axis].push(point[index]); });
      }
      for (const axis of ["x", "y", "z"]) lines[axis].push(null);
    }
  }
  return lines;
}

/**
 * For each crossed edge, the edges on which the line goes on.
 * @param {Grid} surface
 * @param {number[]} heights
 * @param {number} level
 * @returns {Map<number, number[]>}
 */
function linksAt({ alpha, beta }, heights, level) {
  const links = new Map();
  const width = beta.length;
  const link = (one, other) => {
    if (!links.has(one)) links.set(one, []);
    links.get(one).push(other);
  };
  for (let a = 0; a + 1 < alpha.length; a += 1) {
    for (let b = 0; b + 1 < width; b += 1) {
      const p = a * width + b;
      const corners = [p, p + width, p + width + 1, p + 1];
      const above = corners.reduce((bits, corner, index) => bits | (Number(heights[corner] >= level) << index), 0);
      if (above === 0 || above === 15 || !corners.every((corner) => Number.isFinite(heights[corner]))) continue;
      const sides = [2 * p, 2 * (p + width) + 1, 2 * (p + 1), 2 * p + 1];
      const crossed = sides.filter((_, side) => ((above >> side) & 1) !== ((above >> ((side + 1) % 4)) & 1));
      for (let pair = 0; pair + 1 < crossed.length; pair += 2) {
        link(crossed[pair], crossed[pair + 1]);
        link(crossed[pair + 1], crossed[pair]);
      }
    }
  }
  return links;
}

/**
 * Whole lines, each a list of edges: open ones from one end to the other, then closed ones.
 * @param {Map<number, number[]>} links
 * @returns {number[][]}
 */
function chains(links) {
  const found = [];
  const linked = (edge) => links.get(edge) ?? [];
  const follow = (start) => {
    const chain = [start];
    const step = () => linked(chain[chain.length - 1]).pop();
    for (let next = step(); next !== undefined; next = step()) {
      const back = linked(next);
      back.splice(back.indexOf(chain[chain.length - 1]), 1);
      chain.push(next);
    }
    found.push(chain);
  };
  for (const [edge, next] of links) if (next.length === 1) follow(edge);
  for (const [edge, next] of links) if (next.length) follow(edge);
  return found;
}

/**
 * Where a level crosses an edge, moved out of the mesh at a right angle.
 * @param {Grid} surface
 * @param {number[]} heights
 * @param {number} edge
 * @param {number} level
 * @param {number[]} scale
 * @returns {number[]}
 */
function crossing(surface, heights, edge, level, scale) {
  const width = surface.beta.length;
  const start = edge >> 1;
  const end = start + (edge & 1 ? 1 : width);
  const share = (level - heights[start]) / (heights[end] - heights[start]);
  const [from, to] = [place(surface, start), place(surface, end)];
  const slopes = slopesAt(surface, heights, share < 0.5 ? start : end, scale);
  const length = LIFT / Math.hypot(...slopes, 1);
  const foot = from.map((value, axis) => value + share * (to[axis] - value) - (slopes[axis] * length) / scale[axis]);
  return [...foot, level + length / scale[2]];
}

/**
 * Slopes of the mesh along alpha and beta at a grid point, in the box; flat beside holes.
 * @param {Grid} surface
 * @param {number[]} heights
 * @param {number} index
 * @param {number[]} scale
 * @returns {number[]}
 */
function slopesAt({ alpha, beta }, heights, index, scale) {
  const width = beta.length;
  const [i, j] = [Math.floor(index / width), index % width];
  const [left, right] = [Math.max(0, i - 1), Math.min(alpha.length - 1, i + 1)];
  const [front, back] = [Math.max(0, j - 1), Math.min(width - 1, j + 1)];
  const along = (heights[right * width + j] - heights[left * width + j]) / ((alpha[right] - alpha[left]) * scale[0]);
  const across = (heights[i * width + back] - heights[i * width + front]) / ((beta[back] - beta[front]) * scale[1]);
  return [along, across].map((slope) => (Number.isFinite(slope) ? slope * scale[2] : 0));
}

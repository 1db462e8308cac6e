// A surface as a model for other programs: binary glTF and PLY, as it is shown (scale, clip), holes left out.

// @ts-check
/** @import { Choice, Limits } from "./types.js" */

import { colorAt, colorsFor } from "./colors.js";
import { ends, place, span } from "./data.js";
import { metricTitle, shorten } from "./format.js";
import { aspect, trianglesOf } from "./mesh.js";
import { onScale } from "./scales.js";

/**
 * Corners and triangles of a choice as shown. `positions` has α right, β back and the value up, in a box as wide
 * as the figure's; values beyond the clip lie on its top.
 * @param {Choice} choice
 * @param {Limits} limits
 */
function modelOf(choice, limits) {
  const { surface, values } = choice;
  const [from, to] = [onScale(limits, limits.low), onScale(limits, limits.high)];
  const share = Array.from(values, (value) => {
    const height = onScale(limits, value);
    return Number.isFinite(height) ? Math.min(1, Math.max(0, (height - from) / (to - from))) : 0;
  });
  const sides = aspect(surface);
  const across = (value, coordinates) => (value - (ends(coordinates)[0] + ends(coordinates)[1]) / 2) / span(coordinates);
  const positions = share.map((height, index) => {
    const [alpha, beta] = place(surface, index);
    return [sides.x * across(alpha, surface.alpha), sides.y * across(beta, surface.beta), sides.z * height];
  });
  const { i, j, k } = trianglesOf(surface, values);
  return { positions, colors: share.map((one) => colorAt(colorsFor(limits), one)),
    triangles: i.map((corner, index) => [corner, j[index], k[index]]) };
}

/**
 * Corners that some triangle uses, renumbered: programs complain about loose ones.
 * @param {ReturnType<typeof modelOf>} model
 */
function compact({ positions, colors, triangles }) {
  const kept = [...new Set(triangles.flat())].sort((one, other) => one - other);
  const number = new Map(kept.map((corner, index) => [corner, index]));
  const of = (list) => kept.map((corner) => list[corner]);
  return { positions: of(positions), colors: of(colors), kept,
    triangles: triangles.map((corners) => corners.map((corner) => Number(number.get(corner)))) };
}

/**
 * Unit normals at the corners: the areas' mean of the triangles around each.
 * @param {number[][]} positions
 * @param {number[][]} triangles
 * @returns {number[][]}
 */
function normalsOf(positions, triangles) {
  const sums = positions.map(() => [0, 0, 0]);
  for (const corners of triangles) {
    const [p, q, r] = corners.map((corner) => positions[corner]);
    const [u, v] = [q, r].map((end) => end.map((value, axis) => value - p[axis]));
    const normal = [[1, 2], [2, 0], [0, 1]].map(([one, other]) => u[one] * v[other] - u[other] * v[one]);
    for (const corner of corners) normal.forEach((value, axis) => { sums[corner][axis] += value; });
  }
  return sums.map((sum) => {
    const length = Math.hypot(...sum) || 1;
    return sum.map((value) => value / length);
  });
}

/**
 * What the model shows, for a reader of the file.
 * @type {(choice: Choice, limits: Limits, generator: string) => Record<string, unknown>}
 */
const captionOf = ({ surface, plane, split, metric }, limits, generator) => ({
  surface: surface.label, plane: plane.name, split: split.name, metric: metricTitle(metric),
  scale: limits.log ? "log" : "linear", lowest: limits.low, highest: limits.high,
  alpha: ends(surface.alpha), beta: ends(surface.beta), generator,
});

// glTF 2.0: y is up and z comes towards the viewer; vertex colours are linear, not sRGB.
/** @type {(point: number[]) => number[]} */
const upright = ([x, y, z]) => [x, z, -y];
/** @type {(channel: number) => number} */
const linear = (channel) => (channel <= 10.31475 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4);

/**
 * The bytes of a .glb file; `generator` is the program's name.
 * @param {Choice} choice
 * @param {Limits} limits
 * @param {string} generator
 */
export function glbOf(choice, limits, generator) {
  const { positions, colors, triangles } = compact(modelOf(choice, limits));
  const corners = positions.map(upright);
  /** @type {[Float32Array | Uint32Array, "VEC3" | "SCALAR", number, number][]} */
  const parts = [
    [Float32Array.from(corners.flat()), "VEC3", 5126, 34962],
    [Float32Array.from(normalsOf(corners, triangles).flat()), "VEC3", 5126, 34962],
    [Float32Array.from(colors.flatMap((color) => color.map(linear))), "VEC3", 5126, 34962],
    [Uint32Array.from(triangles.flat()), "SCALAR", 5125, 34963],
  ];
  let offset = 0;
  const views = parts.map(([array, , , target], index) => {
    const view = { buffer: 0, byteOffset: offset, byteLength: array.byteLength, target };
    offset += array.byteLength;
    return { view, accessor: { bufferView: index, componentType: parts[index][2], type: parts[index][1],
      count: array.length / (parts[index][1] === "VEC3" ? 3 : 1) } };
  });
  const bound = (pick) => [0, 1, 2].map((axis) => Float32Array.from(corners, (corner) => corner[axis]).reduce((one, other) => pick(one, other)));
  Object.assign(views[0].accessor, { min: bound(Math.min), max: bound(Math.max) });
  const json = {
    asset: { version: "2.0", generator }, scene: 0,
    scenes: [{ nodes: [0] }],
    nodes: [{ mesh: 0, name: shorten(choice.surface.label, 200), extras: captionOf(choice, limits, generator) }],
    meshes: [{ primitives: [{ attributes: { POSITION: 0, NORMAL: 1, COLOR_0: 2 }, indices: 3, material: 0 }] }],
    materials: [{ doubleSided: true, pbrMetallicRoughness: { metallicFactor: 0, roughnessFactor: 0.85 } }],
    accessors: views.map((one) => one.accessor), bufferViews: views.map((one) => one.view),
    buffers: [{ byteLength: offset }],
  };
  const text = new TextEncoder().encode(JSON.stringify(json));
  const padded = new Uint8Array(Math.ceil(text.length / 4) * 4).fill(0x20);
  padded.set(text);
  const chunk = (length, kind) => Uint32Array.of(length, kind);
  return [Uint32Array.of(0x46546c67, 2, 28 + padded.length + offset), chunk(padded.length, 0x4e4f534a), padded,
    chunk(offset, 0x004e4942), ...parts.map(([array]) => array)];
}

/**
 * The bytes of a binary .ply file; each vertex also has its α, β and value.
 * @param {Choice} choice
 * @param {Limits} limits
 * @param {string} generator
 * @returns {[string, DataView]}
 */
export function plyOf(choice, limits, generator) {
  const { positions, colors, triangles, kept } = compact(modelOf(choice, limits));
  const comments = Object.entries(captionOf(choice, limits, generator)).map(([key, value]) =>
    `comment ${key}: ${String(value).replace(/[^\x20-\x7e]+/g, "?")}`);
  const floats = ["x", "y", "z", "alpha", "beta", "value"].map((name) => `property float ${name}`);
  const head = ["ply", "format binary_little_endian 1.0", ...comments, `element vertex ${positions.length}`, ...floats,
    ...["red", "green", "blue"].map((name) => `property uchar ${name}`), `element face ${triangles.length}`,
    "property list uchar int vertex_indices", "end_header", ""].join("\n");
  const bytes = new DataView(new ArrayBuffer(27 * positions.length + 13 * triangles.length));
  positions.forEach((position, index) => {
    const numbers = [...position, ...place(choice.surface, kept[index]), choice.values[kept[index]]];
    numbers.forEach((value, column) => { bytes.setFloat32(27 * index + 4 * column, value, true); });
    colors[index].forEach((value, column) => { bytes.setUint8(27 * index + 24 + column, value); });
  });
  triangles.forEach((corners, index) => {
    const start = 27 * positions.length + 13 * index;
    bytes.setUint8(start, 3);
    corners.forEach((corner, column) => { bytes.setInt32(start + 1 + 4 * column, corner, true); });
  });
  return [head, bytes];
}

import assert from "node:assert/strict";
import { test } from "node:test";

import { colorAt } from "../../landscape/viewer/assets/colors.js";
import { csvOf } from "../../landscape/viewer/assets/csv.js";
import { selectPlain } from "../../landscape/viewer/assets/data.js";
import { glbOf, plyOf } from "../../landscape/viewer/assets/models.js";
import { extent, rangeOf } from "../../landscape/viewer/assets/scales.js";
import { randomGrid, surfaceOf, WANTED } from "./made.js";

function shown(values, options) {
  const choice = selectPlain(surfaceOf(values, options), WANTED);
  return [choice, rangeOf(extent([choice]))];
}

test("glTF: chunks fill the file, bounds and normals are those of the corners", () => {
  const bytes = Buffer.concat(glbOf(...shown(randomGrid(8, 6)), "a program").map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength)));
  assert.equal(bytes.toString("latin1", 0, 4), "glTF");
  assert.equal(bytes.readUInt32LE(8), bytes.length);
  const length = bytes.readUInt32LE(12);
  const json = JSON.parse(bytes.toString("utf8", 20, 20 + length));
  const binary = bytes.subarray(20 + length + 8);
  assert.equal(json.buffers[0].byteLength, binary.length);
  const floats = (index) => {
    const { byteOffset, byteLength } = json.bufferViews[index];
    return Array.from({ length: byteLength / 4 }, (_, k) => binary.readFloatLE(byteOffset + 4 * k));
  };
  const [positions, normals] = [floats(0), floats(1)];
  for (const axis of [0, 1, 2]) {
    const own = positions.filter((_, index) => index % 3 === axis);
    assert.equal(json.accessors[0].min[axis], Math.min(...own));
    assert.equal(json.accessors[0].max[axis], Math.max(...own));
  }
  for (let k = 0; k < normals.length; k += 3) {
    assert.ok(Math.abs(Math.hypot(...normals.slice(k, k + 3)) - 1) < 1e-5);
    assert.ok(normals[k + 1] > 0); // y is up
  }
  assert.deepEqual(json.nodes[0].extras.generator, "a program");
});

test("PLY: says how many there are, has them, and keeps the values", () => {
  const [choice, limits] = shown([[1, 2, 3], [4, null, 6], [7, 8, 9]]);
  const [head, body] = plyOf(choice, limits, "a program");
  const [vertices, faces] = ["vertex", "face"].map((name) => Number(head.match(new RegExp(`element ${name} (\\d+)`))[1]));
  assert.equal(vertices, 8); // the hole is no corner
  assert.equal(faces, 4); // half of each cell remains
  assert.equal(body.byteLength, 27 * vertices + 13 * faces);
  const values = Array.from({ length: vertices }, (_, index) => body.getFloat32(27 * index + 20, true));
  assert.deepEqual(values, [1, 2, 3, 4, 6, 7, 8, 9]);
});

test("colours: ends and middles of a map", () => {
  assert.deepEqual(colorAt(["#000000", "#ff8000"], 0), [0, 0, 0]);
  assert.deepEqual(colorAt(["#000000", "#ff8000"], 0.5), [128, 64, 0]);
  assert.deepEqual(colorAt(["#000000", "#ff8000"], 7), [255, 128, 0]);
});

test("CSV: a line a point, formulas defused, quotes doubled", () => {
  const [choice] = shown([[1, null], [2, 3]], { label: '=cmd|"x"', diverged: [1] });
  const lines = csvOf([choice]).split("\n");
  assert.equal(lines[0], "surface,plane,split,alpha,beta,loss,loss_stderr,computed");
  assert.equal(lines[2], `"'=cmd|""x""",direction seed 0,test,-1,1,inf,nan,1`);
  assert.equal(lines.length, 6);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { cellParts, compareBy, markdown, tabbed } from "../../landscape/viewer/assets/cells.js";

test("cells look like the read-out", () => {
  assert.deepEqual(cellParts({ name: "Ra", value: 0.62237, low: 0.5, high: 0.75 }), ["0.6224", "0.5 to 0.75"]);
  assert.deepEqual(cellParts({ name: "accuracy", unit: "fraction", value: 0.88, low: 0.86, high: 0.9 }),
    ["88.0 %", "86.0 to 90.0 %"]);
  assert.deepEqual(cellParts({ name: "sparsity", unit: "%", value: 98.04 }), ["98.04 %", ""]);
  assert.deepEqual(cellParts({ name: "mask", text: "none" }), ["none", ""]);
  assert.deepEqual(cellParts(undefined), ["—", ""]);
});

test("order: numbers by size, absent last, names as people count", () => {
  const surfaces = [["run 10", 3], ["run 9", 20], ["run 2", undefined]].map(([label, value]) =>
    ({ label, metrics: value === undefined ? [] : [{ name: "Ra", value }] }));
  const sorted = (name) => [...surfaces].sort(compareBy(name)).map(({ label }) => label);
  assert.deepEqual(sorted("Ra"), ["run 10", "run 9", "run 2"]);
  assert.deepEqual(sorted(null), ["run 2", "run 9", "run 10"]);
});

test("tables to take away", () => {
  assert.equal(tabbed([["a", "b"], ["1", "2"]]), "a\tb\n1\t2");
  assert.equal(tabbed([["=HYPERLINK(1)", "−0.52 [−0.6 to −0.4]"], ["a\tb", "-3.1 %"]]),
    "'=HYPERLINK(1)\t−0.52 [−0.6 to −0.4]\na\\u0009b\t-3.1 %");
  assert.equal(markdown([["![a](b)&lt;"]]), "| \\!\\[a\\](b)\\&lt; |\n| --- |");
  assert.equal(markdown([["a|b"], ["*1*"]]), "| a\\|b |\n| --- |\n| \\*1\\* |");
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { selectPlain } from "../../landscape/viewer/assets/data.js";
import { extent, onScale, rangeOf, ticksFor } from "../../landscape/viewer/assets/scales.js";
import { numbersFrom, surfaceOf, WANTED } from "./made.js";

const choiceOf = (values, options) => selectPlain(surfaceOf(values, options), WANTED);

test("extent: of the finite values of all", () => {
  const choices = [choiceOf([[3, null], [-1, 5]]), choiceOf([[2, 9], [0, null]], { diverged: [3] })];
  assert.deepEqual(extent(choices), { low: -1, high: 9, positive: 2 });
});

test("the clip moves the upper end only", () => {
  const found = { low: 1, high: 9, positive: 1 };
  assert.deepEqual(rangeOf(found, { share: 0.25 }), { low: 1, high: 3, log: false });
  assert.deepEqual(rangeOf(found, { share: 0.25, log: true }), { low: 1, high: 3, log: true });
});

test("differences have zero in the middle", () => {
  assert.deepEqual(rangeOf({ low: -3, high: 1, positive: 1 }, { differences: true }),
    { low: -3, high: 3, log: false, diverging: true });
});

test("there is a range where there is nothing, or one value", () => {
  assert.deepEqual(rangeOf({ low: Infinity, high: -Infinity, positive: Infinity }), { low: 0, high: 1, log: false });
  for (const value of [0, -4, 1e-30]) {
    const { low, high } = rangeOf({ low: value, high: value, positive: value });
    assert.ok(high > low);
  }
});

test("ticks: a few, round, inside, ascending", () => {
  const source = numbersFrom(2);
  for (let k = 0; k < 300; k += 1) {
    const log = k % 2 === 0;
    const low = 10 ** (12 * source.next().value - 6);
    const limits = { low, high: low * (1.05 + 10 ** (8 * source.next().value - 1)), log };
    const { tickvals, ticktext } = ticksFor(limits, { unit: "nats" });
    assert.ok(tickvals.length >= 2 && tickvals.length <= 12, `${tickvals.length} ticks in ${JSON.stringify(limits)}`);
    assert.equal(new Set(ticktext).size, ticktext.length);
    assert.ok(tickvals.every((value, index) => !index || value > tickvals[index - 1]));
    const [from, to] = [onScale(limits, limits.low), onScale(limits, limits.high)];
    assert.ok(tickvals.every((value) => value >= from - 0.01 * (to - from) && value <= to + 0.01 * (to - from)));
  }
});

test("ticks of fractions are per cents", () => {
  const { ticktext } = ticksFor({ low: 0.979, high: 0.981, log: false }, { unit: "fraction" });
  assert.deepEqual(ticktext, ["97.90 %", "97.95 %", "98.00 %", "98.05 %", "98.10 %"]);
});

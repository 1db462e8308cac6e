import assert from "node:assert/strict";
import { test } from "node:test";

import {
  count, displayName, formatNumber, formatValue, metricTitle, plain, shorten,
} from "../../landscape/viewer/assets/format.js";
import { numbersFrom } from "./made.js";

test("numbers as a person writes them", () => {
  const expected = [[0, "0"], [0.30000000000000004, "0.3"], [-2.5, "−2.5"], [12345.678, "12350"], [100000, "1×10⁵"],
    [1.5e-7, "1.5×10⁻⁷"], [-3.25e12, "−3.25×10¹²"], [NaN, "not known"], [Infinity, "diverged"]];
  for (const [value, text] of expected) assert.equal(formatNumber(value), text);
});

test("a written number is the number to four digits", () => {
  const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const source = numbersFrom(1);
  for (let k = 0; k < 500; k += 1) {
    const value = (source.next().value - 0.5) * 10 ** Math.floor(40 * source.next().value - 20);
    const text = formatNumber(value).replaceAll("−", "-").replace("×10", "e").replace("⁻", "-")
      .replace(/[⁰-⁹¹²³]/g, (digit) => String(digits.indexOf(digit)));
    assert.ok(Math.abs(Number(text) - value) <= 5.001e-4 * Math.abs(value), `${value} is written ${text}`);
  }
});

test("values with errors and units", () => {
  assert.equal(formatValue({ unit: "nats" }, 2.3149, 0.052), "2.315 ± 0.052");
  assert.equal(formatValue({ unit: "nats" }, 2.3149), "2.315");
  assert.equal(formatValue({ unit: "nats" }, 2.5e6, 1000), "2.5×10⁶ ± 1000");
  assert.equal(formatValue({ unit: "fraction" }, 0.8812), "88.1 %");
  assert.equal(formatValue({ unit: "fraction" }, 0.8812, 0.012), "88.1 ± 1.2 %");
  assert.equal(formatValue({ unit: "fraction", difference: true }, -0.021), "−2.1 % points");
  assert.equal(formatValue({ unit: "fraction" }, NaN), "not known");
});

test("names", () => {
  assert.equal(displayName("lambda_max (test)"), "λmax (test)");
  assert.equal(displayName("lambda_maximal"), "lambda_maximal");
  assert.equal(metricTitle({ name: "loss", unit: "nats", difference: true }), "Δ loss (nats)");
  assert.equal(metricTitle({ name: "accuracy", unit: "fraction" }), "accuracy");
  assert.equal(shorten("abcdef", 4), "abc…");
  assert.equal(plain("<b>&"), "&lt;b&gt;&amp;");
  assert.deepEqual([count(1, "point"), count(1234, "point")], ["1 point", "1,234 points"]);
});

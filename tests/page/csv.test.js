import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { csvOf } from "../../landscape/viewer/assets/csv.js";
import { selectPlain } from "../../landscape/viewer/assets/data.js";
import { spreadsheet } from "../../landscape/viewer/assets/format.js";
import { surfaceOf, WANTED } from "./made.js";

const CASES = JSON.parse(readFileSync(new URL("./spreadsheet.json", import.meta.url), "utf8"));

test("no cell is a formula", () => {
  for (const text of CASES.formulas) assert.ok(spreadsheet(text).startsWith("'"), JSON.stringify(text));
  for (const text of CASES.others) assert.equal(spreadsheet(text), text);
  for (const text of ["−0.5", "−1.2×10⁻⁵", "−3.1 %", "−1 ± 0.5", "−0.5 [−0.6 to diverged]"]) {
    assert.equal(spreadsheet(text), text); // as the page writes numbers
  }
});

test("labels of a CSV are defused, its numbers stay", () => {
  const label = (text) => csvOf([selectPlain(surfaceOf([[-1]], { label: text }), WANTED)]).split("\n")[1];
  assert.match(label(" =1+1"), /^"' =1\+1",direction seed 0,test,/);
  assert.match(label("−1+1"), /^"'−1\+1",.*,-1,nan,1$/);
  assert.match(label("\r=1+1"), /^"'\\u000d=1\+1",/);
});

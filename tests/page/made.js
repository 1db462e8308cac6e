// Small surfaces for the tests of the page's modules.

/** A surface of `values` (rows along alpha, null = not known) over even coordinates from -1 to 1. */
export function surfaceOf(values, { unit = "nats", diverged = [], computed = null, name = "loss", label = "one" } = {}) {
  const even = (count) => Array.from({ length: count }, (_, k) => (count === 1 ? 0 : -1 + (2 * k) / (count - 1)));
  const flat = values.flat();
  const metric = { name, unit, values: flat, diverged, stderr: null, error: 0, log_error: null, computed };
  const plane = { name: "direction seed 0", notes: [], axes: ["α", "β"], computed: "1".repeat(flat.length), path: null,
    splits: [{ name: "test", examples: 10, metrics: [metric] }] };
  return { label, dim: values[0].length === 1 ? 1 : 2, complete: true, center: null, alpha: even(values.length),
    beta: even(values[0].length), planes: [plane], metrics: [], facts: [] };
}

export const WANTED = { plane: "direction seed 0", split: "test", metric: "loss" };

/** Numbers from 0 to 1 that are the same in every run (a linear congruence). */
export function* numbersFrom(seed) {
  for (let state = seed; ; ) {
    state = (1103515245 * state + 12345) % 2147483648;
    yield state / 2147483648;
  }
}

/** A grid of `count` such numbers a side. */
export function randomGrid(seed, count) {
  const source = numbersFrom(seed);
  return Array.from({ length: count }, () => Array.from({ length: count }, () => source.next().value));
}

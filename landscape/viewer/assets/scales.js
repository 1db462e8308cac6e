// Value ranges, clipping, linear and log, ticks.

const extents = new WeakMap();

/** Lowest, highest and lowest positive finite value of a choice; infinite bounds where nothing is finite. */
function extentOf(choice) {
  if (extents.has(choice.metric)) return extents.get(choice.metric);
  let [low, high, positive] = [Infinity, -Infinity, Infinity];
  for (const value of choice.values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
    if (value > 0) positive = Math.min(positive, value);
  }
  extents.set(choice.metric, { low, high, positive });
  return { low, high, positive };
}

function extent(choices) {
  const all = choices.map(extentOf);
  return {
    low: Math.min(...all.map((one) => one.low)),
    high: Math.max(...all.map((one) => one.high)),
    positive: Math.min(...all.map((one) => one.positive)),
  };
}

const shownEverywhere = () =>
  page.surfaces.map((surface) => select(surface, state)).filter((choice) => !choice.missing);

/** Why there is no log scale: "" where there is one. It needs positive values throughout. */
function logObstacle() {
  if (state.reference !== "") return "differences have a linear scale";
  const below = shownEverywhere().find((choice) => extentOf(choice).low <= 0);
  return below ? `linear: ${displayName(below.metric.name)} is not above 0 everywhere` : "";
}

const logPossible = () => !logObstacle();
const usesLog = () => state.scale === "log" && logPossible();

/** From where to where a figure shows values; differences and plain values have limits of their own. */
function limitsOf(choices) {
  const differences = Boolean(choices[0]?.metric?.difference);
  const alike = shownEverywhere().filter((choice) => Boolean(choice.metric.difference) === differences);
  return limitsFor(extent(state.limits === "shared" ? alike : choices), differences);
}

/**
 * Limits for values in an extent. The clip slider's cube makes its lower part fine, where the basin is; it
 * moves the upper end only. Differences have zero in the middle.
 */
function limitsFor(found, differences = false, share = state.clip ** 3) {
  if (found.high < found.low) return { low: 0, high: 1, log: false };
  if (differences) {
    const high = Math.max(Math.abs(found.low), Math.abs(found.high)) * share || 1e-12;
    return { low: -high, high, log: false, diverging: true };
  }
  const log = usesLog();
  const low = log ? found.positive : found.low;
  let high = low + (found.high - low) * share;
  if (!(high > low)) high = low + Math.max(Math.abs(low) * 0.01, 1e-12);
  return { low, high, log };
}

const onScale = (limits, value) => (limits.log ? Math.log10(value) : value);

/** Round values in the log range for ticks: 1, 2, 5 × 10^k, or powers of ten where they would crowd. */
function logTicks({ low, high }) {
  const [from, to] = [Math.log10(low), Math.log10(high)];
  if (to - from < 0.7) return evenTicks(low, high);
  const steps = to - from > 2.5 ? [1] : [1, 2, 5];
  const stride = Math.max(1, Math.ceil((to - from) / 8));
  const ticks = [];
  for (let power = Math.floor(from); power <= Math.ceil(to); power += 1) {
    if (power % stride === 0) ticks.push(...steps.map((step) => Number(`${step}e${power}`)));
  }
  const shown = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return shown.length < 3 ? evenTicks(low, high) : shown;
}

/** Four to eight round, evenly spaced values. */
function evenTicks(low, high) {
  const rough = (high - low) / 8;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((one) => one >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k += 1) ticks.push(Number((k * step).toPrecision(10)));
  return ticks;
}

/** Plotly tick settings for an axis or colour bar whose numbers are `onScale`. */
function ticksFor(limits, metric) {
  const values = limits.log ? logTicks(limits) : evenTicks(limits.low, limits.high);
  const percent = (value) => Number((100 * value).toPrecision(6));
  const decimals = (value) => String(percent(value)).split(".")[1]?.length ?? 0;
  const digits = Math.min(6, Math.max(0, ...values.map(decimals)));
  const label = (value) => {
    if (metric.unit !== "fraction") return formatNumber(value, 6);
    return `${limits.log ? formatNumber(percent(value), 6) : minus(percent(value).toFixed(digits))} %`;
  };
  return {
    tickmode: "array",
    tickvals: values.map((value) => onScale(limits, value)),
    ticktext: values.map(label),
  };
}

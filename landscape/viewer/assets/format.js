// Numbers and names as text.

// @ts-check
/** @import { Metric } from "./types.js" */

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
/** @type {(text: string) => string} */
export const minus = (text) => text.replace("-", "−");

/**
 * @param {number} exponent
 * @returns {string}
 */
function powerOfTen(exponent) {
  const digits = [...String(Math.abs(exponent))].map((digit) => SUPERSCRIPTS[Number(digit)]).join("");
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}

/**
 * `value` with `digits` significant digits, as a person writes it.
 * @param {number} value
 * @param {number} [digits]
 * @returns {string}
 */
export function formatNumber(value, digits = 4) {
  if (Number.isNaN(value)) return "not known";
  if (!Number.isFinite(value)) return "diverged";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-4)) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    return minus(`${Number(mantissa)}×${powerOfTen(Number(exponent))}`);
  }
  return minus(String(Number(value.toPrecision(digits))));
}

/**
 * Text in which nothing is hidden: controls and marks that reorder it stand as their escapes, as on the terminal.
 * @param {string} text
 * @returns {string}
 */
export function unhidden(text) {
  return text.replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (letter) =>
    `\\u${Number(letter.codePointAt(0)).toString(16).padStart(4, "0")}`,
  );
}

const VALUE = "[+\\-−]?(?:(?:\\d+(?:\\.\\d*)?|\\.\\d+)(?:e[+-]?\\d+|×10⁻?[⁰¹²³⁴-⁹]+)?|inf|nan|diverged|not known)(?: %)?";
const NUMBER = new RegExp(`^${VALUE}(?: ± ${VALUE})?(?: \\[${VALUE} to ${VALUE}\\])?$`, "i");

/**
 * A cell that no spreadsheet takes for a formula, by the rule of landscape/escaping.py; numbers, also as the
 * page writes them, stay numbers.
 * @param {string} text
 * @returns {string}
 */
export function spreadsheet(text) {
  const shown = unhidden(text);
  const formula = /^\s*[=+\-@＝＋－＠−]/.test(shown) || /^[\t\r\n]/.test(text);
  return formula && !NUMBER.test(shown) ? `'${shown}` : shown;
}

/** @type {Record<string, string>} */
const NAMES = { lambda_max: "λmax", lambda_min: "λmin", lambda_ratio: "|λmin/λmax|" };

/**
 * A metric's name as a person writes it, also as the start of a column's name: "λmax (test)".
 * @type {(name: string) => string}
 */
export const displayName = (name) => name.replace(/^lambda_(max|min|ratio)(?= |$)/, (found) => NAMES[found]);

/**
 * A number with its error, both to the error's second digit: "2.31 ± 0.05".
 * @param {number} value
 * @param {number | null} error
 * @returns {string}
 */
function withError(value, error) {
  if (!Number.isFinite(value) || !error || !(error > 0)) return formatNumber(value);
  if (Math.abs(value) >= 1e5 || error < 1e-6) return `${formatNumber(value)} ± ${formatNumber(error, 2)}`;
  const decimals = Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(error))));
  return minus(`${value.toFixed(decimals)} ± ${error.toFixed(decimals)}`);
}

/**
 * A value of `metric` with its standard error where that is known; fractions as per cent.
 * @param {Pick<Metric, "unit" | "difference">} metric
 * @param {number} value
 * @param {number | null} [error]
 * @returns {string}
 */
export function formatValue(metric, value, error = null) {
  if (metric.unit !== "fraction" || !Number.isFinite(value)) return withError(value, error);
  if (metric.difference) return `${minus((100 * value).toFixed(1))} % points`;
  if (!error || !(error > 0)) return `${minus((100 * value).toFixed(1))} %`;
  return `${minus((100 * value).toFixed(1))} ± ${(100 * error).toFixed(1)} %`;
}

/**
 * @param {Pick<Metric, "name" | "unit" | "difference">} metric
 * @returns {string}
 */
export function metricTitle(metric) {
  const name = `${metric.difference ? "Δ " : ""}${displayName(metric.name)}`;
  return metric.unit && metric.unit !== "fraction" ? `${name} (${metric.unit})` : name;
}

/** @type {(text: string, length: number) => string} */
export const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/**
 * Text that Plotly shows as it is: Plotly reads a little HTML in its texts.
 * @type {(text: unknown) => string}
 */
export const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** @type {(number: number, noun: string) => string} */
export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

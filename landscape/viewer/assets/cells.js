// The cells of the table as text, their order, and the whole as text to take away.

// @ts-check
/** @import { Cell, Surface } from "./types.js" */

import { formatNumber, formatValue, spreadsheet } from "./format.js";

/**
 * A number as the read-out has it.
 * @param {Cell} cell
 * @param {number} value
 */
function cellNumber(cell, value) {
  if (cell.unit === "fraction") return formatValue({ unit: cell.unit }, value);
  return `${formatNumber(value, 4)}${cell.unit === "%" ? " %" : ""}`;
}

/**
 * A cell's text and, for an estimate, its interval.
 * @param {Cell | undefined} cell
 * @returns {[string, string]}
 */
export function cellParts(cell) {
  if (!cell) return ["—", ""];
  if (cell.text !== undefined) return [cell.text, ""];
  if (cell.value === undefined) return ["—", ""];
  const text = (value) => cellNumber(cell, value);
  if (cell.low === undefined || cell.high === undefined) return [text(cell.value), ""];
  return [text(cell.value), `${text(cell.low).replace(" %", "")} to ${text(cell.high)}`];
}

/**
 * Order of two surfaces by a column: numbers by size, text by alphabet, what is absent last.
 * @param {string | null} name
 * @returns {(one: Surface, other: Surface) => number}
 */
export function compareBy(name) {
  const key = (surface) => {
    if (name === null) return surface.label;
    const cell = surface.metrics.find((one) => one.name === name);
    return cell?.value ?? cell?.text ?? "\uffff";
  };
  return (one, other) => {
    const [a, b] = [key(one), key(other)];
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
}

/** For a spreadsheet. @type {(rows: string[][]) => string} */
export const tabbed = (rows) => rows.map((row) => row.map(spreadsheet).join("\t")).join("\n");

/**
 * @param {string[][]} rows
 * @returns {string}
 */
export function markdown([head, ...rows]) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const escaped = (row) => row.map((text) => text.replace(/[\\|`*_<>[\]#~&$!]/g, "\\$&"));
  return [line(escaped(head)), line(head.map(() => "---")), ...rows.map((row) => line(escaped(row)))].join("\n");
}

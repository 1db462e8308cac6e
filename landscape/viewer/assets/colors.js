// Colour maps and the colours of lines and paths.

// @ts-check
/** @import { Limits } from "./types.js" */

// Viridis and a blue-to-red map whose middle is pale: even in lightness, they survive greyscale and colour-blindness.

export const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b",
  "#fde725"];
const DIVERGING = ["#1b3a6b", "#2f6aa8", "#6fa3cd", "#b9d3e6", "#f2f0ec", "#efc5b0", "#d98b6c", "#b4503c", "#701b24"];
export const LINE_COLORS = { // after Okabe & Ito: told apart by the colour-blind; lighter ones on a dark page
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a06b00", "#5b4fc9"],
  dark: ["#56b4e9", "#e69f00", "#2fc6a0", "#f0a0cb", "#f0e442", "#a9a2ff"],
};
export const PATHS = ["#ff5a36", "#39c5f3", "#ffd23f", "#d783ff", "#8be36b", "#ff9ac4"]; // as landscape.plot's

/**
 * The colours for a range of values: diverging where zero is the middle.
 * @type {(limits: Limits) => string[]}
 */
export const colorsFor = (limits) => (limits.diverging ? DIVERGING : VIRIDIS);
/** @type {(limits: Limits) => [number, string][]} */
export const colorscale = (limits) => colorsFor(limits).map((color, index, all) => [index / (all.length - 1), color]);

/**
 * Channels 0 to 255 of a colour map at a share from 0 to 1.
 * @param {string[]} colors
 * @param {number} share
 * @returns {number[]}
 */
export function colorAt(colors, share) {
  const place = Math.min(1, Math.max(0, share)) * (colors.length - 1);
  const [low, high] = [Math.floor(place), Math.ceil(place)].map((index) => rgb(colors[index]));
  return low.map((channel, index) => Math.round(channel + (high[index] - channel) * (place - Math.floor(place))));
}

/** @type {(hex: string) => number[]} */
const rgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

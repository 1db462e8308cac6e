// What a panel says in words: conditions, read-out, tooltip, path.

import { gridOf, place } from "./data.js";
import { element } from "./dom.js";
import { count, formatNumber, shorten } from "./format.js";
import { describe } from "./look.js";
import { cellOf } from "./mesh.js";

/** Mask, normalization, plane, examples and grid of a surface: what a reader must know to compare. */
function conditionsOf({ surface, plane, split }) {
  const examples = split ? `${split.name}, ${count(split.examples, "example")}` : "";
  return [...plane.notes, examples, gridOf(surface), surface.complete ? "" : "incomplete"].filter(Boolean).join(" · ");
}

/** The conditions, once where all lines share them. */
export function subtitleOf(choices) {
  const conditions = choices.map(conditionsOf);
  const shared = new Set(conditions).size === 1;
  const each = choices.map(({ surface }, index) => `${surface.label}: ${conditions[index]}`);
  const bands = choices.some(({ surface, metric }) => surface.dim === 1 && metric?.stderr);
  return `${shared ? conditions[0] : each.join("; ")}${bands ? " · band: one standard error" : ""}`;
}

export function readoutLine(choice, index, named) {
  const { parts, origin } = describe(choice, index);
  const [alpha, beta] = place(choice.surface, index);
  const field = (name, text) => element("span", {}, element("b", { textContent: name }), ` ${text}`);
  const coordinates = choice.surface.dim === 2
    ? [field("α", formatNumber(alpha, 4)), field("β", formatNumber(beta, 4))] : [field("α", formatNumber(alpha, 4))];
  const name = named ? element("span", { className: "name", textContent: choice.surface.label }) : null;
  const values = parts.map((part) => field(part.name, part.text));
  const errors = values.some((field) => field.textContent.includes("±")) ? " · ± one standard error" : "";
  const source = element("span", { className: "muted", textContent: origin + errors });
  return element("p", {}, name, ...coordinates, ...values, source);
}

/** What a tooltip says about a point. */
export function tipLines(choice, index) {
  if (choice.missing) return [];
  const { parts, origin } = describe(choice, index);
  const [alpha, beta] = place(choice.surface, index).map((value) => formatNumber(value, 3));
  return [`α ${alpha}, β ${beta}`, ...parts.map((part) => `${part.name} ${part.text}`), origin];
}

export function pathInWords(surface, path) {
  const inside = path.alpha.filter((alpha, index) => cellOf(surface.alpha, alpha)[0] >= 0
    && cellOf(surface.beta, path.beta[index])[0] >= 0).length;
  const outside = path.alpha.length - inside;
  const whose = path.name ? `path of ${shorten(path.name, 40)}, ` : "path of ";
  return `${whose}${count(path.alpha.length, "network")}${outside ? `, ${outside} outside the grid` : ""}`;
}

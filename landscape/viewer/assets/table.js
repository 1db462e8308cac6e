// The metrics of all surfaces, sortable, and where the surfaces came from.

import { cellParts, compareBy, markdown, tabbed } from "./cells.js";
import { button, download, element } from "./dom.js";
import { displayName } from "./format.js";
import { page } from "./page.js";

const FEW = 6; // surfaces that stand beside each other
const MANY = 7; // columns that fit on a narrow screen and on paper

/** A surface's name and its values, one for each column. */
function cellsOf(surface, scope) {
  const cells = page.columns.map((name) => {
    const cell = surface.metrics.find((one) => one.name === name);
    const [text, interval] = cellParts(cell);
    return element("td", { className: cell?.text === undefined ? "number" : "" }, text,
      interval ? element("small", { textContent: interval }) : null);
  });
  return [element("th", { scope, title: surface.label },
    element("div", { className: "clamp", textContent: surface.label })), ...cells];
}

/**
 * The table: a row a surface or, `turned`, a column a surface. `order` has the surfaces as they stand; a sort moves
 * cells and leaves the buttons where they are, and with them the focus.
 */
class Table {
  constructor() {
    this.turned = page.columns.length > MANY && page.surfaces.length <= FEW;
    this.heads = [null, ...page.columns].map((name, index) => this.head(name, this.turned && index ? "row" : "col"));
    this.cells = new Map(page.surfaces.map((surface) => [surface, cellsOf(surface, this.turned ? "col" : "row")]));
    this.order = page.surfaces;
    const lines = this.turned ? this.heads.map((head) => element("tr", {}, head))
      : [element("tr", {}, ...this.heads), ...page.surfaces.map(() => element("tr"))];
    this.node = element("table", { className: this.turned ? "turned" : "" }, element("thead", {}, lines[0]),
      element("tbody", {}, ...lines.slice(1)));
    this.fill();
  }

  head(name, scope) {
    const head = element("th", { scope });
    const shown = displayName(name ?? "surface");
    head.append(button(shown, `Sort by ${shown}`, () => this.sort(head, name)));
    return head;
  }

  fill() {
    const rows = [...this.node.rows];
    const columns = this.order.map((surface) => this.cells.get(surface));
    if (this.turned) rows.forEach((row, index) => { row.append(...columns.map((cells) => cells[index])); });
    else columns.forEach((cells, index) => { rows[index + 1].replaceChildren(...cells); });
  }

  sort(head, name) {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const one of this.heads) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    this.order = [...page.surfaces].sort(compareBy(name));
    if (!ascending) this.order.reverse();
    this.fill();
  }

  /** A row a surface in the order shown, intervals in brackets. */
  texts() {
    return [this.heads, ...this.order.map((surface) => this.cells.get(surface))].map((cells) => cells.map((cell) => {
      const interval = cell.querySelector("small")?.textContent;
      const text = (cell.firstChild?.textContent ?? "").replace(/\s+/g, " ");
      return interval ? `${text} [${interval}]` : text;
    }));
  }
}

/** A button that copies the table; `format` makes a text of its rows. */
function copyButton(table, label, what, format, name) {
  const trigger = button(label, `Copy the table as ${what}`, async () => {
    const text = format(table.texts());
    try {
      await navigator.clipboard.writeText(text);
      trigger.textContent = "Copied";
    } catch {
      download(name, text, "text/plain"); // no clipboard in a sandboxed frame
    }
    setTimeout(() => { trigger.textContent = label; }, 2000);
  });
  return trigger;
}

export function startTable() {
  if (!page.columns.length) return;
  const table = new Table();
  const copies = element("div", { className: "copies" },
    copyButton(table, "Copy table", "tab-separated text", tabbed, "metrics.tsv"),
    copyButton(table, "Copy Markdown", "Markdown", markdown, "metrics.md"));
  const section = document.getElementById("metrics");
  section.hidden = false;
  const heading = element("h2", { id: "metrics-title", textContent: "Metrics" });
  const scroll = element("div", { className: "scroll", tabIndex: 0, role: "region" }, table.node);
  scroll.setAttribute("aria-label", "Metrics of all surfaces");
  const intervals = table.node.querySelector("small") ? "Below a value: its 95 % interval." : "";
  section.append(element("div", { className: "section-head" }, heading, copies), scroll,
    element("p", { className: "note", textContent: intervals }));
}

export function startProvenance() {
  const details = document.getElementById("provenance");
  details.hidden = page.surfaces.every((surface) => !surface.facts.length);
  for (const surface of page.surfaces) {
    const list = element("dl");
    for (const [key, text] of surface.facts) {
      list.append(element("dt", { textContent: key }), element("dd", { textContent: text }));
    }
    details.append(element("section", {}, element("h3", { textContent: surface.label }), list));
  }
}

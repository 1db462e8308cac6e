// The metrics of all surfaces, sortable, and where the surfaces came from.

/** A cell's text and, for an estimate, its interval. */
function cellParts(cell) {
  if (!cell) return ["—", ""];
  if (cell.text !== undefined) return [cell.text, ""];
  const interval = cell.low === undefined ? "" : `${formatNumber(cell.low, 4)} to ${formatNumber(cell.high, 4)}`;
  return [formatNumber(cell.value, 4), interval];
}

function tableRow(surface) {
  const cells = page.columns.map((name) => {
    const cell = surface.metrics.find((one) => one.name === name);
    const [text, interval] = cellParts(cell);
    return element("td", { className: cell?.text === undefined ? "number" : "" }, text,
      interval ? element("small", { textContent: interval }) : null);
  });
  return element("tr", {}, element("th", { scope: "row", title: surface.label },
    element("div", { className: "clamp", textContent: surface.label })), ...cells);
}

/** Order of two surfaces by a column: numbers by size, text by alphabet, what is absent last. */
function compareBy(name) {
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

function sortTable(body, header, name) {
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const one of header.parentElement.children) one.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const sorted = [...page.surfaces].sort(compareBy(name));
  if (!ascending) sorted.reverse();
  body.replaceChildren(...sorted.map(tableRow));
}

/** The table's texts in the order shown, intervals in brackets. */
function tableTexts(table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) => {
    const interval = cell.querySelector("small")?.textContent;
    const text = (cell.firstChild?.textContent ?? "").replace(/\s+/g, " ");
    return interval ? `${text} [${interval}]` : text;
  }));
}

const tabbed = (rows) => rows.map((row) => row.join("\t")).join("\n");

function markdown([head, ...rows]) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const escaped = (row) => row.map((text) => text.replace(/[\\|`*_<>[\]]/g, "\\$&"));
  return [line(escaped(head)), line(head.map(() => "---")), ...rows.map((row) => line(escaped(row)))].join("\n");
}

/** A button that copies the table; `format` makes a text of its rows. */
function copyButton(table, label, what, format, name) {
  const trigger = button(label, `Copy the table as ${what}`, async () => {
    const text = format(tableTexts(table));
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

function startTable() {
  if (!page.columns.length) return;
  const body = element("tbody", {}, ...page.surfaces.map(tableRow));
  const heads = [null, ...page.columns].map((name) => {
    const head = element("th", { scope: "col" });
    const shown = displayName(name ?? "surface");
    head.append(button(shown, `Sort by ${shown}`, () => sortTable(body, head, name)));
    return head;
  });
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
  const copies = element("div", { className: "copies" },
    copyButton(table, "Copy table", "tab-separated text", tabbed, "metrics.tsv"),
    copyButton(table, "Copy Markdown", "Markdown", markdown, "metrics.md"));
  const section = document.getElementById("metrics");
  section.hidden = false;
  const heading = element("h2", { id: "metrics-title", textContent: "Metrics" });
  const scroll = element("div", { className: "scroll", tabIndex: 0, role: "region" }, table);
  scroll.setAttribute("aria-label", "Metrics of all surfaces");
  const intervals = body.querySelector("small") ? "Below a value: its 95 % interval." : "";
  section.append(element("div", { className: "section-head" }, heading, copies), scroll,
    element("p", { className: "note", textContent: intervals }));
}

function startProvenance() {
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

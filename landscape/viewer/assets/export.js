// Files to take away: pictures by Plotly, values as CSV; models are in models.js.

const FILES = [
  ["PNG", "this figure as a picture (PNG)", (panel) => savePicture(panel, "png")],
  ["SVG", "this figure as a drawing (SVG)", (panel) => savePicture(panel, "svg")],
  ["CSV", "all values of this plane and these examples (CSV)", (panel) => saveValues(panel)],
  ["GLB", "the surface as a model (glTF)", (panel) => saveModel(panel, "glb")],
  ["PLY", "the surface as a model with its values (PLY)", (panel) => saveModel(panel, "ply")],
];

/** A button that opens a panel's list of downloads; `sync` hides models where there is no surface. */
function downloadMenu(panel) {
  const list = element("div", { className: "menu", id: `files-${downloadMenu.number = (downloadMenu.number ?? 0) + 1}`,
    hidden: true });
  const opener = button("Download", "", () => open(list.hidden));
  opener.setAttribute("aria-expanded", "false");
  opener.setAttribute("aria-controls", list.id);
  const menu = element("div", { className: "downloads" }, opener, list);
  function open(shown) {
    list.hidden = !shown;
    opener.setAttribute("aria-expanded", String(shown));
  }
  for (const [name, what, save] of FILES) {
    const entry = button(name, `Download ${what}`, () => { open(false); opener.focus(); return save(panel); });
    entry.append(element("span", { textContent: what }));
    list.append(entry);
  }
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || list.hidden) return;
    open(false);
    opener.focus();
  });
  menu.addEventListener("focusout", (event) => { if (!menu.contains(event.relatedTarget)) open(false); });
  menu.name = () => {
    opener.title = `Download ${shorten(panel.label, 60)}`;
    opener.setAttribute("aria-label", opener.title);
  };
  menu.sync = (choices) => {
    const shown = choices.filter((choice) => !choice.missing);
    const model = !panel.lines && shown.length > 0 && trianglesOf(shown[0].surface, shown[0].values).i.length > 0;
    [...list.children].slice(3).forEach((entry) => { entry.hidden = !model; });
    [...list.children].slice(0, 2).forEach((entry) => { entry.hidden = !shown.length; });
  };
  return menu;
}

/** The figure with its title and subtitle, on the card's background, at a fixed size. */
async function savePicture(panel, format) {
  const size = { width: 1000, height: panel.lines ? 640 : 820 };
  const colors = themeColors();
  const { data, layout } = panel.figure(colors, { width: size.width, height: size.height - 90 });
  const [name, conditions] = [plain(shorten(panel.label, 90)), plain(panel.subtitle.textContent)];
  const title = { text: `<b>${name}</b><br><span style="font-size:13px">${conditions}</span>`,
    x: 0.03, xanchor: "left", y: 0.97, yanchor: "top", font: { size: 18 } };
  const margin = { ...layout.margin, t: layout.margin.t + 90 };
  const filename = `${fileName(panel.label)}_${fileName(displayName(state.metric))}`;
  await Plotly.downloadImage({ data, layout: { ...layout, ...size, title, margin, paper_bgcolor: colors.card } },
    { format, ...size, scale: format === "png" ? 2 : 1, filename });
}

/** A CSV field; text that a spreadsheet would run as a formula is defused. */
function csvField(text) {
  const safe = /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const csvNumber = (value) => {
  if (value === null || Number.isNaN(value)) return "nan";
  return Number.isFinite(value) ? String(value) : "inf";
};

/** All metrics of the chosen plane and split, one grid point a line; curvature has computed points of its own. */
function csvOf(panel) {
  const choices = panel.choices().filter((choice) => choice.split);
  const metrics = [...new Set(choices.flatMap((choice) => choice.split.metrics.map((metric) => metric.name)))];
  const findIn = (split, name) => split.metrics.find((metric) => metric.name === name);
  const own = new Set(metrics.filter((name) => choices.some(({ split }) => findIn(split, name)?.computed)));
  const columns = metrics.flatMap((name) => [name, `${name}_stderr`, ...(own.has(name) ? [`${name}_computed`] : [])]);
  const head = ["surface", "plane", "split", "alpha", "beta", ...columns, "computed"];
  const lines = choices.flatMap(({ surface, plane, split }) => {
    const found = metrics.map((name) => [name, findIn(split, name)]);
    return Array.from({ length: plane.computed.length }, (_, index) => {
      const values = found.flatMap(([name, metric]) => [
        ...(metric ? [csvNumber(valuesOf(metric)[index]), csvNumber(metric.stderr?.[index] ?? null)] : ["nan", "nan"]),
        ...(own.has(name) ? [metric ? (metric.computed ?? plane.computed)[index] : "0"] : [])]);
      return [csvField(surface.label), csvField(plane.name), csvField(split.name), ...place(surface, index), ...values,
        plane.computed[index]].join(",");
    });
  });
  return [head.map(csvField).join(","), ...lines, ""].join("\n");
}

function saveValues(panel) {
  download(`${fileName(panel.label)}.csv`, csvOf(panel), "text/csv");
}

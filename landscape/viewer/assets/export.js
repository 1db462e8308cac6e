// Files to take away: pictures by Plotly, values, models.

import { csvOf } from "./csv.js";
import { button, download, element, fileName } from "./dom.js";
import { displayName, metricTitle, plain, shorten } from "./format.js";
import { limitsOf } from "./limits.js";
import { themeColors } from "./look.js";
import { trianglesOf } from "./mesh.js";
import { glbOf, plyOf } from "./models.js";
import { page } from "./page.js";
import { state } from "./state.js";

const FILES = [
  ["PNG", "this figure as a picture (PNG)", (panel) => savePicture(panel, "png")],
  ["SVG", "this figure as a drawing (SVG)", (panel) => savePicture(panel, "svg")],
  ["CSV", "all values of this plane and these examples (CSV)", (panel) => saveValues(panel)],
  ["GLB", "the surface as a model (glTF)", (panel) => saveModel(panel, "glb")],
  ["PLY", "the surface as a model with its values (PLY)", (panel) => saveModel(panel, "ply")],
];

let menus = 0; // so far, for names that differ

/** A button that opens a panel's list of downloads; `sync` hides models where there is no surface. */
export function downloadMenu(panel) {
  menus += 1;
  const list = element("div", { className: "menu", id: `files-${menus}`, hidden: true });
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

function saveValues(panel) {
  download(`${fileName(panel.label)}.csv`, csvOf(panel.choices().filter((choice) => choice.split)), "text/csv");
}

const MODELS = { glb: [glbOf, "model/gltf-binary"], ply: [plyOf, "application/octet-stream"] };

function saveModel(panel, format) {
  const [choice] = panel.choices();
  const name = `${fileName(panel.label)}_${fileName(metricTitle(choice.metric))}.${format}`;
  const [bytesOf, type] = MODELS[format];
  download(name, bytesOf(choice, limitsOf([choice]), page.generator), type);
}

// Small helpers that build the page. Text always goes through textContent: names are never read as HTML.

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "for" || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const button = (text, label, onclick) =>
  element("button", { type: "button", textContent: text, title: label, "aria-label": label, onclick });

/** Hand a file to the user. */
function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A name that every file system takes. */
const fileName = (text) => shorten(text.replace(/[^\p{L}\p{N}._-]+/gu, "_").replace(/^[._]+/, ""), 80) || "surface";

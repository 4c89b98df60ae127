// A button at every figure (SVG, PNG) and every table (Markdown, LaTeX) that copies it; without JavaScript there is none.
const announcement = element("div", { class: "announced", role: "status" });
document.body.append(announcement);
let quiet = 0;
function announce(text) {
  announcement.textContent = text;
  clearTimeout(quiet);
  quiet = setTimeout(() => { announcement.textContent = ""; }, 4000);
}

function download(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Blobs by type, promised, onto the clipboard; where it is refused the first is saved as a file.
async function copy(what, name, types) {
  let says = `copied: ${what}`;
  try {
    await navigator.clipboard.write([new ClipboardItem(types)]);
  } catch {
    try {
      download(name, await Object.values(types)[0]);
      says = `saved as ${name}, since the clipboard was refused: ${what}`;
    } catch {
      says = `could not be copied: ${what}`;
    }
  }
  announce(says);
}

const asText = (text) => ({ "text/plain": new Blob([text], { type: "text/plain" }) });

function copyTools(what, kinds) {
  const button = ([label, act]) => element("button", { type: "button", "aria-label": `Copy ${label}: ${what}`, on: { click: act } }, label);
  return element("div", { class: "copy", role: "group", "aria-label": `Copy ${what}` },
    element("span", { "aria-hidden": "true" }, "copy"), ...kinds.map(button));
}

// The drawing by itself: its colours, which are the page's variables, as they are now; its lines as page.css joins them.
function standalone(svg) {
  const own = svg.cloneNode(true), box = boxOf(svg), look = getComputedStyle(document.documentElement);
  own.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  own.setAttribute("width", `${box.width}${box.unit}`);
  own.setAttribute("height", `${box.height}${box.unit}`);
  own.setAttribute("stroke-linejoin", "round");
  own.setAttribute("stroke-linecap", "butt");
  own.removeAttribute("class");
  own.removeAttribute("aria-hidden");
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of [["x", box.x], ["y", box.y], ["width", box.width], ["height", box.height], ["fill", "var(--paper)"]]) {
    paper.setAttribute(name, String(value));
  }
  own.prepend(paper);
  return new XMLSerializer().serializeToString(own).replace(/var\((--[\w-]+)\)/g, (_, name) => look.getPropertyValue(name).trim() || "none");
}

// A figure's units are points, as matplotlib draws it; a plot's are pixels.
function boxOf(svg) {
  const box = (svg.getAttribute("viewBox") || "").split(/[\s,]+/).map(Number);
  const [x, y, width, height] = box.length === 4 ? box : [0, 0, svg.clientWidth, svg.clientHeight];
  return { x, y, width, height, unit: svg.closest("figure") ? "pt" : "px" };
}

const SCALE = 2;
async function pngOf(svg) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(svg))}`;
  await image.decode();
  const canvas = element("canvas", { width: String(SCALE * image.naturalWidth), height: String(SCALE * image.naturalHeight) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done, fail) => {
    canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("the canvas gave no image"))), "image/png");
  });
}

// Of a drawing in several forms, one of which is shown, the widest is copied.
function widest(container) {
  return [...container.querySelectorAll("svg")].sort((a, b) => boxOf(b).width - boxOf(a).width)[0];
}

function figureTools(container, what, name) {
  return copyTools(what, [
    ["SVG", () => copy(`${what}, SVG`, `${name}.svg`, svgTypes(standalone(widest(container))))],
    ["PNG", () => copy(`${what}, PNG`, `${name}.png`, { "image/png": pngOf(widest(container)) })],
  ]);
}

function svgTypes(text) {
  const image = "image/svg+xml";
  return window.ClipboardItem?.supports?.(image) ? { ...asText(text), [image]: new Blob([text], { type: image }) } : asText(text);
}

function tableTools(table, what, name) {
  return copyTools(what, [
    ["Markdown", () => copy(`${what}, Markdown`, `${name}.md`, asText(markdownOf(cellsOf(table))))],
    ["LaTeX", () => copy(`${what}, LaTeX`, `${name}.tex`, asText(latexOf(cellsOf(table))))],
  ]);
}

const fileOf = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "table";

for (const drawing of document.querySelectorAll("figure[id^='figure-'] > .drawing")) {
  if (!drawing.querySelector("svg")) continue;
  const name = drawing.parentElement.id;
  drawing.after(figureTools(drawing, name.replace("-", " ").replaceAll("_", " "), name));
}
for (const table of document.querySelectorAll(".scroll > table")) {
  const what = table.parentElement.getAttribute("aria-label") || "table";
  table.parentElement.after(tableTools(table, what, fileOf(what)));
}

// Elements and texts. Untrusted text, from items and models, enters the page only here, as text nodes.
function element(name, options = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const NONE = "\u2013";
const untrusted = (text) => (text === null || text === "" ? NONE : element("bdi", {}, String(text)));
const yesNo = (value) => (value === null ? NONE : value ? "\u2713 yes" : "\u2717 no");

function number(value) {
  if (value === "inf" || value === "-inf") return value.replace("inf", "\u221e").replace("-", "\u2212");
  return value === null ? NONE : value.toFixed(Math.abs(value) < 10 ? 2 : 1).replace("-", "\u2212");
}

const LONG = 400;
function start(text, limit) {
  // Half of a surrogate pair would show as a replacement character.
  const half = /[\ud800-\udbff]/.test(text[limit - 1]);
  return text.slice(0, half ? limit - 1 : limit);
}

// The beginning of a long text, with a button that shows the rest and hides it again.
function clipped(text) {
  if (text === null || text.length <= LONG) return untrusted(text);
  const shown = element("bdi", {}, `${start(text, LONG)} \u2026`);
  const button = element("button", { type: "button", class: "more", "aria-expanded": "false" });
  const label = (open) => (open ? "Show less" : `Show all ${text.length.toLocaleString("en")} characters`);
  button.textContent = label(false);
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(open));
    button.textContent = label(open);
    shown.textContent = open ? text : `${start(text, LONG)} \u2026`;
  });
  return element("span", {}, shown, " ", button);
}

function brief(text) {
  return text !== null && text.length > 160 ? `${start(text, 160)} \u2026` : text;
}

function scrolling(label, ...children) {
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, ...children);
}

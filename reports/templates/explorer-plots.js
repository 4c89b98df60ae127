// Vega-Lite views: the plane of margins, and one item's layers. Expressions are interpreted, because the page's policy
// forbids evaluation; colours are the page's own variables, so that light and dark need no second drawing.
const SPECS = JSON.parse(document.getElementById("plot-specs").textContent);
const CONFIG = {
  background: "transparent", font: "system-ui, 'DejaVu Sans', sans-serif", aria: false, padding: { left: 4, right: 14, top: 6, bottom: 4 },
  view: { stroke: "var(--grid)" },
  axis: {
    labelColor: "var(--soft)", titleColor: "var(--ink)", titleFontWeight: "normal", gridColor: "var(--grid)",
    domainColor: "var(--grid)", tickColor: "var(--grid)", labelFontSize: 12, titleFontSize: 13, gridOpacity: 0.6,
  },
  legend: { labelColor: "var(--ink)", labelFontSize: 12, symbolStrokeWidth: 1.6, columnPadding: 18, padding: 4 },
};

function embed(place, spec, datasets, tooltip = false) {
  const options = { actions: false, ast: true, renderer: "svg", mode: "vega-lite", defaultStyle: false, config: CONFIG };
  return vegaEmbed(place, { ...structuredClone(spec), datasets }, { ...options, tooltip }).then((made) => {
    place.querySelector("svg").setAttribute("aria-hidden", "true"); // its container is the image, and has the label
    return made;
  });
}

// Vega follows its container only when the window changes.
function follow(place) {
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth && place.clientWidth !== width) {
      width = place.clientWidth;
      window.dispatchEvent(new Event("resize"));
    }
  }).observe(place);
}

const hint = element("div", { class: "hint", hidden: "" });
function pointed(_, event, __, value) {
  hint.hidden = !value;
  if (!value) return;
  hint.textContent = value;
  hint.style.left = `${Math.max(8, Math.min(event.clientX + 12, window.innerWidth - hint.offsetWidth - 8))}px`;
  hint.style.top = `${event.clientY + 14}px`;
}

function points(items) {
  return items.map((item) => ({ place: item, ...margins(item) }))
    .filter((own) => typeof own.prior_margin === "number" && typeof own.adapter_margin === "number")
    .map((own) => ({
      ...own, known: Boolean(about(own.place, "known")), outcome: outcome(own.place),
      label: brief(`${about(own.place, "item")}: ${about(own.place, "question") ?? ""}`),
    }));
}

// Where adapter margin equals prior margin, as far as both axes reach.
function override(rows) {
  const ends = (name) => [Math.min(...rows.map((row) => row[name])), Math.max(...rows.map((row) => row[name]))];
  const [left, right] = ends("prior_margin"), [bottom, top] = ends("adapter_margin");
  const low = Math.max(left, bottom), high = Math.min(right, top);
  if (low < high) return [low, high].map((value) => ({ prior_margin: value, adapter_margin: value }));
  return [{ prior_margin: left, adapter_margin: bottom }]; // a line of one point draws nothing and widens no axis
}

const NEAR = 14; // pixels
class Scatter {
  constructor(view, act) {
    Object.assign(this, { view, act, rows: [], silent: false, down: [0, 0] });
    view.addSignalListener("brush", (_, brush) => {
      if (!this.silent) act.brush(Object.keys(brush).length === 2 ? sorted(brush) : null);
    });
    view.addEventListener("pointerdown", (event) => { this.down = [event.clientX, event.clientY]; });
    view.addEventListener("click", (event) => this.click(event));
  }

  show(rows) {
    this.rows = rows;
    this.view.data("items", rows).data("line", override(rows)).run();
  }

  mark(item) {
    this.view.signal("current", item === null ? -1 : item).run();
  }

  clear() {
    this.silent = true;
    this.view.signal("brush_x", [0, 0]).signal("brush_y", [0, 0]).run();
    this.silent = false;
  }

  // The brush's own mark lies over the points, so the point meant is the nearest, not what the browser hit.
  click(event) {
    if (Math.hypot(event.clientX - this.down[0], event.clientY - this.down[1]) > 4) return;
    const box = this.view.container().querySelector("svg").getBoundingClientRect(), [left, top] = this.view.origin();
    const x = this.view.scale("x"), y = this.view.scale("y");
    const far = (row) => Math.hypot(
      x(row.prior_margin) + left - (event.clientX - box.left), y(row.adapter_margin) + top - (event.clientY - box.top));
    const near = this.rows.map((row) => [far(row), row.place]).sort(([a], [b]) => a - b)[0];
    if (near && near[0] <= NEAR) this.act.open(near[1]);
  }
}

function sorted(brush) {
  return Object.fromEntries(Object.entries(brush).map(([name, ends]) => [name, [...ends].sort((a, b) => a - b)]));
}

// Each layer plot as its element and what draws it, once the element has a width.
function profile(item) {
  const own = Object.fromEntries(["norm", "moved", "direct"].map((name) => [name, data.layers[name]?.[item] ?? null]));
  const rows = (data.layers.layer || []).map((layer, place) => ({
    layer, norm: own.norm?.[place] ?? null, moved: own.moved?.[place] ?? null, direct: own.direct?.[place] ?? null,
  }));
  const drawing = (name, label, words) => {
    const place = element("div", { class: "bars", role: "img", "aria-label": label });
    const figure = element("div", { class: "profile" }, element("h4", {}, label), place, element("p", { class: "fine" }, words));
    return [figure, () => embed(place, SPECS[name], { layers: rows })];
  };
  const drawn = [];
  if (own.moved) drawn.push(["moved", "What each layer adds to the adapter margin",
    "Bars: attribution, base minus adapted; up favours the document's answer. Dots: what the update at that layer itself writes."]);
  if (own.norm) drawn.push(["norm", "Norm of each layer's update", "Frobenius norm of the layer's updates together, as delivered."]);
  return drawn.map((words) => drawing(...words));
}

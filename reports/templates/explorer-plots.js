// Vega-Lite views: the plot of both margins, and one item's layers. Expressions are interpreted, because the page's policy
// forbids evaluation; colours are the page's CSS variables, so that light and dark mode need no second drawing.
const SPECS = JSON.parse(document.getElementById("plot-specs").textContent);
const CONFIG = {
  background: "transparent", font: "system-ui, 'DejaVu Sans', sans-serif", aria: false, padding: { left: 4, right: 14, top: 6, bottom: 4 },
  view: { stroke: "var(--grid)" },
  axis: {
    labelColor: "var(--soft)", titleColor: "var(--ink)", titleFontWeight: "normal", gridColor: "var(--grid)",
    domainColor: "var(--grid)", tickColor: "var(--grid)", labelFontSize: 12, titleFontSize: 13, gridOpacity: 0.6,
  },
  legend: { labelColor: "var(--ink)", labelFontSize: 12, symbolStrokeWidth: 1.6, columnPadding: 12, padding: 4 },
};

function embed(container, spec, datasets, tooltip = false) {
  const options = { actions: false, ast: true, renderer: "svg", mode: "vega-lite", defaultStyle: false, config: CONFIG };
  return vegaEmbed(container, { ...structuredClone(spec), datasets }, { ...options, tooltip }).then((embedded) => {
    container.querySelector("svg").setAttribute("aria-hidden", "true"); // its container is the image, and has the label
    return embedded;
  });
}

// Vega adapts to its container only when the window changes size; this makes it adapt whenever the container does.
function resizeWith(container) {
  let width = container.clientWidth;
  new ResizeObserver(() => {
    if (container.clientWidth && container.clientWidth !== width) {
      width = container.clientWidth;
      window.dispatchEvent(new Event("resize"));
    }
  }).observe(container);
}

const hint = element("div", { class: "hint", hidden: "" });
function showHint(_, event, __, value) {
  hint.hidden = !value;
  if (!value) return;
  hint.textContent = value;
  hint.style.left = `${Math.max(8, Math.min(event.clientX + 12, window.innerWidth - hint.offsetWidth - 8))}px`;
  hint.style.top = `${event.clientY + 14}px`;
}

function points(items) {
  return items.map((item) => ({ item, ...margins(item) }))
    .filter((row) => typeof row.prior_margin === "number" && typeof row.adapter_margin === "number")
    .map((row) => ({
      ...row, known: Boolean(itemValue(row.item, "known")), outcome: outcome(row.item),
      label: brief(`${itemValue(row.item, "item")}: ${itemValue(row.item, "question") ?? ""}`),
    }));
}

// The line on which adapter margin equals prior margin, within the range of both.
function overrideLine(rows) {
  const ends = (name) => [Math.min(...rows.map((row) => row[name])), Math.max(...rows.map((row) => row[name]))];
  const [left, right] = ends("prior_margin"), [bottom, top] = ends("adapter_margin");
  const low = Math.max(left, bottom), high = Math.min(right, top);
  if (low < high) return [low, high].map((value) => ({ prior_margin: value, adapter_margin: value }));
  return [{ prior_margin: left, adapter_margin: bottom }]; // a line of one point draws nothing and widens no axis
}

const NEAR = 14; // pixels
class Scatter {
  constructor(view, actions) {
    Object.assign(this, { view, actions, rows: [], silent: false, down: [0, 0] });
    view.addSignalListener("brush", (_, brush) => {
      if (!this.silent) actions.brush(Object.keys(brush).length === 2 ? sorted(brush) : null);
    });
    view.addEventListener("pointerdown", (event) => { this.down = [event.clientX, event.clientY]; });
    view.addEventListener("click", (event) => this.click(event));
  }

  show(rows) {
    this.rows = rows;
    this.view.data("items", rows).data("line", overrideLine(rows)).run();
  }

  mark(item) {
    this.view.signal("current", item === null ? -1 : item).run();
  }

  // Draw the selection that the state holds, without telling of it.
  select(brush) {
    const ends = (name, axis) => brush[name].map((value) => this.view.scale(axis)(value));
    this.silent = true;
    this.view.signal("brush_x", ends("prior_margin", "x")).signal("brush_y", ends("adapter_margin", "y").reverse()).run();
    this.silent = false;
  }

  clear() {
    this.silent = true;
    this.view.signal("brush_x", [0, 0]).signal("brush_y", [0, 0]).run();
    this.silent = false;
  }

  // The brush's own mark covers the points, so a click opens the nearest point, not what the browser hit.
  click(event) {
    if (Math.hypot(event.clientX - this.down[0], event.clientY - this.down[1]) > 4) return;
    const box = this.view.container().querySelector("svg").getBoundingClientRect(), [left, top] = this.view.origin();
    const x = this.view.scale("x"), y = this.view.scale("y");
    const distance = (row) => Math.hypot(
      x(row.prior_margin) + left - (event.clientX - box.left), y(row.adapter_margin) + top - (event.clientY - box.top));
    const nearest = this.rows.map((row) => [distance(row), row.item]).sort(([a], [b]) => a - b)[0];
    if (nearest && nearest[0] <= NEAR) this.actions.open(nearest[1]);
  }
}

function sorted(brush) {
  return Object.fromEntries(Object.entries(brush).map(([name, ends]) => [name, [...ends].sort((a, b) => a - b)]));
}

// The account as a mechanism in one item: three plots of its net margin on one scale. A click on a gain that is a condition
// of the run chooses that condition in the whole explorer, and the chosen condition's gain is ringed.
const GAIN_NAMES = data.conditions.map((name) =>
  name === "base" ? 0 : name === "as-delivered" ? 1 : /^uniform-[0-9.]+$/.test(name) ? Number(name.slice(8)) : null);
const LARGEST_GAIN = 8;
function mechanism(item, choose) {
  const [gains, doses, shares] = ["gains", "doses", "shares"].map((name) => data.mechanism[name]?.[item] ?? null);
  if (!gains) return [];
  const prior = itemValue(item, "prior_margin");
  const reading = ([at, net, first, base]) => ({
    at, net, outcome: first === null ? "outcome not measured" : first ? "success" : "failure", base: base === null || base === undefined ? null : -base,
    condition: GAIN_NAMES.indexOf(at),
  });
  const byGain = gains.map(reading).filter((row) => row.at <= LARGEST_GAIN), byDose = (doses || []).map(reading);
  let level = -prior;
  const steps = (shares || []).map(([layer, share]) => ({ layer, share, from: level, to: (level += share) }));
  const heights = [...byGain, ...byDose].flatMap((row) => [row.net, row.base]).concat(steps.flatMap((row) => [row.from, row.to]), 0)
    .filter((value) => typeof value === "number");
  const span = [Math.min(...heights), Math.max(...heights)];
  const atOne = byGain.find((row) => row.at === 1);
  const ends = byGain.length && atOne ? [0, byGain[byGain.length - 1].at].map((at) => ({ at, net: -prior + at * (atOne.net + prior) })) : [];
  const zero = byDose.find((row) => row.at === 0);
  const expected = zero ? byDose.map((row) => ({ at: row.at, net: zero.net - row.at })) : [];
  const plot = (name, label, explanation, datasets, ready = () => {}) => {
    const container = element("div", { class: "bars", role: "img", "aria-label": label });
    const figure = element("div", { class: "profile" }, element("h4", {}, label), container, element("p", { class: "fine" }, explanation));
    return [figure, () => embed(container, SPECS[name], { ...datasets, span: span.map((net) => ({ net })) }).then((embedded) => (ready(embedded.view), embedded))];
  };
  const plots = [];
  if (byGain.length) plots.push(plot("gain", "Net margin by gain of the adapter",
    "Filled: the document's answer comes first. Dashed: a response linear in the gain. Ringed: the condition chosen above; click a mark to choose its condition.",
    { readings: byGain.map((row) => ({ ...row, current: row.condition === state.condition })), expected: ends },
    (view) => view.addEventListener("click", (_, mark) => { if (mark?.datum?.condition >= 0) choose(mark.datum.condition); })));
  if (byDose.length) plots.push(plot("dose", "Net margin by dose of prior",
    "The same adapter on a base whose prior margin was raised or lowered by so many nats. Squares: the base alone. Dashed: a constant adapter margin.",
    { readings: byDose, expected }));
  if (steps.length) plots.push(plot("steps", "From the base's margin to the adapted one, layer by layer",
    "Each bar is a layer's share of the adapter margin; the last bar ends at the net margin as delivered.", { steps }));
  return plots;
}

// Each layer plot as an element and a function that draws it, to be called once the element has a width.
function profile(item) {
  const values = Object.fromEntries(["norm", "moved", "direct"].map((name) => [name, data.layers[name]?.[item] ?? null]));
  const rows = (data.layers.layer || []).map((layer, index) => ({
    layer, norm: values.norm?.[index] ?? null, moved: values.moved?.[index] ?? null, direct: values.direct?.[index] ?? null,
  }));
  const plot = (name, label, explanation) => {
    const container = element("div", { class: "bars", role: "img", "aria-label": label });
    const figure = element("div", { class: "profile" }, element("h4", {}, label), container, element("p", { class: "fine" }, explanation));
    return [figure, () => embed(container, SPECS[name], { layers: rows })];
  };
  const plots = [];
  if (values.moved) plots.push(["moved", "What each layer adds to the adapter margin",
    "Bars: attribution, base minus adapted; up favours the document's answer. Dots: what the update at that layer itself writes."]);
  if (values.norm) plots.push(["norm", "Norm of each layer's update", "Frobenius norm of the layer's updates together, as delivered."]);
  return plots.map((words) => plot(...words));
}

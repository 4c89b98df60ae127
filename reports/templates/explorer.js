// The explorer: controls, the plot of both margins, the table and the open item, all showing one state.
const root = document.getElementById("explorer");
let scatter = null;

const controls = new Controls((choices, how) => change(choices, how));
const chooser = new Chooser((choices) => change(choices, { redraw: false, kept: true }));
const clear = element("button", { type: "button", on: { click: () => { if (scatter) scatter.clear(); change({ brush: null }); } } }, "Clear selection");
const reset = element("button", { type: "button", on: { click: () => restore({ ...START, current: state.current }, false, true) } }, "Reset");
const status = element("p", { class: "fine", role: "status" });
const plane = element("div", { class: "plane", role: "img", "aria-label": "Adapter margin against prior margin, one mark per item; the table lists the same items" });
const explanation = element("p", { class: "fine" }, "Filled: the base model knew the old answer; hollow: it did not. Dashed: adapter margin equals prior margin; above it the document's answer outscores the old one. Drag to select; click a mark or a row to open it. In the table, arrow keys move and Enter opens.");

function open(item, moved = true) {
  state.current = item;
  table.mark();
  if (scatter) scatter.mark(item);
  detail.show(item, table.items, moved);
  if (moved) record(true);
}

function close() {
  const item = state.current;
  leave();
  table.reach(item, true);
  record(true);
}

function leave() {
  state.current = null;
  table.mark();
  if (scatter) scatter.mark(null);
  detail.hide();
}

const table = new Table({
  open,
  sort: (key) => change({ down: state.sort === key ? !state.down : false, sort: key }, { redraw: false }),
  turned: () => record(false),
});
function choose(condition, item) {
  change({ condition });
  open(item);
}

const detail = new Detail({ open, choose, close, back: () => table.reach(state.current, true) });

// `redraw`: the plot as well; `finished`: an entry of the history; `kept`: the page of rows stays.
function change(choices, { redraw = true, finished = true, kept = false } = {}) {
  Object.assign(state, kept ? {} : { page: 0 }, choices);
  show(redraw);
  record(finished);
}

function show(redraw = true) {
  const items = chosen(), selected = brushed(items);
  table.show(selected);
  controls.show();
  chooser.show();
  if (redraw) draw(points(items));
  clear.disabled = !state.brush;
  root.dataset.words = state.words;
  status.textContent = said(selected.length);
}

function said(count) {
  const left = data.left_out;
  return `${count} of ${everyItem.length} items` + (state.brush ? ", selected in the plot" : "") +
    (left.items ? `; ${left.items} more are in readings/*.parquet` : "") +
    (left.conditions.length ? `; conditions left out here: ${left.conditions.join(", ")}` : "") + ".";
}

// The view of a link or of an entry of the history. `arrived`: from outside, so that the page shows its place.
function restore(view, arrived, finished = false) {
  Object.assign(state, START, view);
  if (scatter && !state.brush) scatter.clear();
  show();
  if (scatter && state.brush) scatter.select(state.brush);
  if (state.current === null) leave();
  else open(state.current, false);
  if (state.current !== null && arrived) table.reach(state.current);
  if (finished) record(true);
  if (!arrived) return;
  reveal(root);
  (state.current === null ? document.getElementById("items") : detail.root).scrollIntoView();
}

// The plot appears with the first points: where no item has margins there are no axes to draw.
let embedding = null;
function draw(rows) {
  plane.hidden = explanation.hidden = !rows.length;
  plotTools.hidden = !rows.length;
  if (!rows.length) return;
  if (scatter) scatter.show(rows);
  else if (!embedding) {
    embedding = true;
    whenOpen(plane, () => embed(plane, SPECS.scatter, { items: points(chosen()), line: overrideLine(points(chosen())) }, showHint).then(({ view }) => {
      scatter = new Scatter(view, { open, brush: (brush) => change({ brush }, { redraw: false, finished: false }) });
      draw(points(chosen()));
      if (state.brush) scatter.select(state.brush);
      if (state.current !== null) scatter.mark(state.current);
      resizeWith(plane);
      root.dataset.drawn = "true";
    }));
  }
}

// A plot takes its width from the page, so that it is drawn once the folds around it are open.
function whenOpen(node, act) {
  const shut = node.parentElement.closest("details:not([open])");
  if (!shut) act();
  else shut.addEventListener("toggle", () => whenOpen(node, act), { once: true });
}

const plotTools = figureTools(plane, "plot of the items", "items");
const link = element("button", { type: "button", on: { click: () =>
  copy("link to this view", `${data.name}-link.txt`, asText(location.href.split("#")[0] + fragment())) } }, "Copy link to this view");

if (everyItem.length) {
  const tools = element("div", { class: "tools" }, clear, reset, link, exportTools(() => table.items));
  root.append(controls.root, controls.further, status, tools, element("div", { class: "sheets" },
    element("div", {}, plane, plotTools, explanation, chooser.root, table.root, tableTools(table.table, "rows shown", "items")), detail.root), hint);
  root.hidden = false;
  show();
  follow(restore);
}

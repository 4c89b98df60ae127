// The explorer: controls, the plot of both margins, the table and the open item, all showing one state.
const root = document.getElementById("explorer");
let scatter = null;

function choice(label, key, options) {
  const box = element("select", { on: { change: () => { change({ [key]: key === "condition" ? Number(box.value) : box.value }); } } });
  for (const [value, text] of options) box.append(element("option", { value }, text));
  box.value = state[key];
  return element("label", {}, label, box);
}

const search = element("input", { type: "search", size: "14", autocomplete: "off" });
let waiting = 0;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => change({ words: search.value.trim().toLowerCase() }), 120);
});
const any = (name) => [["", "any"], ...distinct(name).map((value) => [value, brief(value)])];
const measures = MEASURES.filter(([name]) => (data.readings[name] || []).some((column) => column.some((value) => value !== null)));
const clear = element("button", { type: "button", on: { click: () => { if (scatter) scatter.clear(); change({ brush: null }); } } }, "Clear selection");
const controls = element("div", { class: "controls", role: "group", "aria-label": "Which items" },
  choice("condition", "condition", data.conditions.map((name, index) => [index, brief(name)])),
  choice("split", "split", any("split")),
  distinct("tier").length ? choice("tier", "tier", any("tier")) : null,
  measures.length > 1 ? choice("measure", "measure", measures) : null,
  choice("outcome", "outcome", [["", "any"], ["success", "success"], ["failure", "failure"], ["not measured", "not measured"]]),
  element("label", {}, "search text", search), clear);
const status = element("p", { class: "fine", role: "status" });
const plane = element("div", { class: "plane", role: "img", "aria-label": "Adapter margin against prior margin, one mark per item; the table lists the same items" });
const explanation = element("p", { class: "fine" }, "Filled: the base model knew the old answer; hollow: it did not. Dashed: adapter margin equals prior margin; above it the document's answer outscores the old one. Drag to select; click a mark or a row to open it. In the table, arrow keys move and Enter opens.");

function open(item) {
  state.current = item;
  table.mark();
  if (scatter) scatter.mark(item);
  detail.show(item, table.items);
}

const table = new Table({
  open,
  sort: (key) => change({ down: state.sort === key ? !state.down : false, sort: key }),
});
function choose(condition, item) {
  change({ condition });
  controls.querySelector("select").value = condition;
  open(item);
}

const detail = new Detail({ open, choose, back: () => table.return(state.current) });

function change(choices, redraw = true) {
  Object.assign(state, { page: 0 }, choices);
  const items = chosen(), selected = brushed(items), left = data.left_out;
  if (redraw) draw(points(items));
  table.show(selected);
  clear.disabled = !state.brush;
  root.dataset.words = state.words;
  status.textContent = `${selected.length} of ${everyItem.length} items` + (state.brush ? ", selected in the plot" : "") +
    (left.items ? `; ${left.items} more are in readings/*.parquet` : "") +
    (left.conditions.length ? `; conditions left out here: ${left.conditions.join(", ")}` : "") + ".";
}

// The plot appears with the first points: where no item has margins there are no axes to draw.
let embedding = null;
function draw(rows) {
  plane.hidden = explanation.hidden = !rows.length;
  if (!rows.length) return;
  if (scatter) scatter.show(rows);
  else if (!embedding) {
    embedding = embed(plane, SPECS.scatter, { items: rows, line: overrideLine(rows) }, showHint).then(({ view }) => {
      scatter = new Scatter(view, { open, brush: (brush) => change({ brush }, false) });
      draw(points(chosen()));
      resizeWith(plane);
      root.dataset.drawn = "true";
    });
  }
}

if (everyItem.length) {
  root.append(controls, status, element("div", { class: "sheets" }, element("div", {}, plane, explanation, table.root), detail.root), hint);
  root.hidden = false;
  if (distinct("split").includes("conflict")) {
    state.split = "conflict";
    controls.querySelectorAll("select")[1].value = "conflict";
  }
  change({});
}

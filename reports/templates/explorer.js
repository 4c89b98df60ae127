// The explorer: controls above, the plane of margins, the table, and the open item, all over one state.
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
const any = (name) => [["", "any"], ...kinds(name).map((value) => [value, brief(value)])];
const measures = MEASURES.filter(([name]) => (data.readings[name] || []).some((own) => own.some((value) => value !== null)));
const clear = element("button", { type: "button", on: { click: () => { if (scatter) scatter.clear(); change({ brush: null }); } } }, "Clear selection");
const controls = element("div", { class: "controls", role: "group", "aria-label": "Which items" },
  choice("condition", "condition", data.conditions.map((name, place) => [place, brief(name)])),
  choice("split", "split", any("split")),
  kinds("tier").length ? choice("tier", "tier", any("tier")) : null,
  measures.length > 1 ? choice("measure", "measure", measures) : null,
  choice("outcome", "outcome", [["", "any"], ["success", "success"], ["failure", "failure"], ["not measured", "not measured"]]),
  element("label", {}, "search text", search), clear);
const status = element("p", { class: "fine", role: "status" });
const plane = element("div", { class: "plane", role: "img", "aria-label": "Prior margin against adapter margin, one mark an item; the table lists the same items" });
const words = element("p", { class: "fine" }, "Filled: the base knew the held answer; hollow: it did not. Dashed: adapter margin equals prior margin; above it the document's answer outscores the held one. Drag to select, click a mark or a row to open it; in the table, arrow keys move and Enter opens.");

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
const detail = new Detail({ open, back: () => table.return(state.current) });

function change(choices, redraw = true) {
  Object.assign(state, { page: 0 }, choices);
  const items = chosen(), found = brushed(items), left = data.left_out;
  if (redraw) draw(points(items));
  table.show(found);
  clear.disabled = !state.brush;
  root.dataset.words = state.words;
  status.textContent = `${found.length} of ${everyone.length} items` + (state.brush ? ", selected in the plot" : "") +
    (left.items ? `; ${left.items} more are in readings/*.parquet` : "") +
    (left.conditions.length ? `; conditions left out here: ${left.conditions.join(", ")}` : "") + ".";
}

// The plane appears with the first points: where nothing has margins there are no axes to draw.
let embedding = null;
function draw(rows) {
  plane.hidden = words.hidden = !rows.length;
  if (!rows.length) return;
  if (scatter) scatter.show(rows);
  else if (!embedding) {
    embedding = embed(plane, SPECS.scatter, { items: rows, line: override(rows) }, pointed).then(({ view }) => {
      scatter = new Scatter(view, { open, brush: (brush) => change({ brush }, false) });
      draw(points(chosen()));
      follow(plane);
      root.dataset.drawn = "true";
    });
  }
}

if (everyone.length) {
  root.append(controls, status, element("div", { class: "sheets" }, element("div", {}, plane, words, table.root), detail.root), hint);
  root.hidden = false;
  if (kinds("split").includes("conflict")) {
    state.split = "conflict";
    controls.querySelectorAll("select")[1].value = "conflict";
  }
  change({});
}

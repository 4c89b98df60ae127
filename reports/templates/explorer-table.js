// The items as pages of rows. One row at a time is in the tab order; arrow keys move it, Enter opens the item.
const PAGE = 50;
const shownColumns = () => state.columns.map((key) => FIELDS.get(key));
const MARKED = { success: "\u2713 success", failure: "\u2717 failure" };

function shownCell(field, item) {
  const value = (field.shown || field.get)(item);
  if (field.key === "outcome") return MARKED[value] || value;
  return field.kind === "text" ? untrusted(brief(value)) : field.kind === "truth" ? yesNo(value) : number(value);
}

class Table {
  constructor(actions) {
    this.actions = actions;
    this.items = [];
    this.rows = [];
    this.head = element("tr");
    this.heads = "";
    this.body = element("tbody", { on: { keydown: (event) => this.key(event) } });
    this.range = element("span");
    this.previous = element("button", { type: "button", on: { click: () => this.turn(-1) } }, "Previous rows");
    this.next = element("button", { type: "button", on: { click: () => this.turn(1) } }, "Next rows");
    this.table = element("table", { "aria-label": "Items" }, element("thead", {}, this.head), this.body);
    this.list = element("div", { class: "list" }, this.table);
    this.root = element("div", {}, this.list, element("div", { class: "pager" }, this.previous, this.range, this.next));
  }

  // The heads of the columns, made anew where other columns are shown, so that the focus stays on a head that sorts.
  headings(columns) {
    const names = JSON.stringify(state.columns);
    if (names !== this.heads) {
      this.heads = names;
      this.head.replaceChildren(...columns.map(({ key, label }) => element("th", { scope: "col" },
        element("button", { type: "button", on: { click: () => this.actions.sort(key) } }, brief(label)))));
    }
    columns.forEach(({ key, label }, place) => {
      const cell = this.head.children[place], sorted = key === state.sort;
      cell.setAttribute("aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
      cell.firstChild.textContent = brief(label) + (sorted ? (state.down ? " \u25be" : " \u25b4") : "");
    });
  }

  show(items) {
    this.items = ordered(items);
    this.headings(shownColumns());
    this.page(state.page);
  }

  page(wanted) {
    const pages = Math.max(1, Math.ceil(this.items.length / PAGE));
    state.page = Math.min(Math.max(0, wanted), pages - 1);
    const start = state.page * PAGE, shown = this.items.slice(start, start + PAGE);
    this.rows = shown.map((item) => this.row(item));
    this.body.replaceChildren(...this.rows);
    if (this.rows.length) this.focusable(Math.max(0, shown.indexOf(state.current)));
    this.list.scrollTop = 0;
    this.range.textContent = shown.length ? `Rows ${start + 1} to ${start + shown.length} of ${this.items.length}` : "No item fits these choices";
    this.previous.disabled = state.page === 0;
    this.next.disabled = state.page === pages - 1;
  }

  row(item) {
    const cells = shownColumns().map((field) => element("td", { class: field.width }, shownCell(field, item)));
    const current = item === state.current ? "true" : null;
    return element("tr", { tabindex: "-1", "aria-current": current, on: { click: () => this.actions.open(item) } }, ...cells);
  }

  mark() {
    const shown = this.items.slice(state.page * PAGE, (state.page + 1) * PAGE);
    shown.forEach((item, index) => {
      if (item === state.current) this.rows[index].setAttribute("aria-current", "true");
      else this.rows[index].removeAttribute("aria-current");
    });
    if (shown.includes(state.current)) this.focusable(shown.indexOf(state.current));
  }

  // Make one row the one that Tab stops at.
  focusable(index, focus = false) {
    this.rows.forEach((row, other) => row.setAttribute("tabindex", other === index ? "0" : "-1"));
    if (focus) this.rows[index].focus();
  }

  turn(step) {
    this.page(state.page + step);
    this.actions.turned();
  }

  key(event) {
    const index = this.rows.indexOf(event.target);
    if (index < 0) return;
    const item = this.items[state.page * PAGE + index];
    const moves = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: this.rows.length - 1 };
    if (event.key in moves) this.focusable(Math.min(Math.max(0, moves[event.key]), this.rows.length - 1), true);
    else if (event.key === "Enter" || event.key === " ") this.actions.open(item);
    else if (event.key === "PageDown" || event.key === "PageUp") {
      this.turn(event.key === "PageDown" ? 1 : -1);
      this.focusable(0, true);
    } else return;
    event.preventDefault();
  }

  // Show the page that holds an item and make its row the one that Tab stops at.
  reach(item, focus = false) {
    const index = this.items.indexOf(item);
    if (index < 0) return;
    if (Math.floor(index / PAGE) !== state.page) this.page(Math.floor(index / PAGE));
    this.focusable(index % PAGE, focus);
  }
}

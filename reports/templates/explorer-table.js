// The items as pages of rows. One row at a time is in the tab order; arrow keys move it, Enter opens the item.
const PAGE = 50;
const COLUMNS = [
  { key: "item", label: "item", get: (item) => itemValue(item, "item"), class: "name" },
  { key: "split", label: "split", get: (item) => [itemValue(item, "split"), itemValue(item, "tier")].filter((name) => name).join(", ") },
  { key: "question", label: "question", get: (item) => brief(itemValue(item, "question")), class: "q" },
  { key: "known", label: "known", get: (item) => itemValue(item, "known"), show: yesNo, class: "num" },
  { key: "prior_margin", label: "prior margin", get: (item) => itemValue(item, "prior_margin"), show: number, class: "num" },
  { key: "adapter_margin", label: "adapter margin", get: (item) => readingValue(item, "adapter_margin"), show: number, class: "num" },
  { key: "net_margin", label: "net margin", get: (item) => readingValue(item, "net_margin"), show: number, class: "num" },
  { key: "outcome", label: "outcome", get: outcome, show: (value) => ({ success: "\u2713 success", failure: "\u2717 failure" })[value] || value, class: "num" },
  { key: "top_token", label: "says", get: (item) => brief(readingValue(item, "top_token")), class: "says" },
];

class Table {
  constructor(actions) {
    this.actions = actions;
    this.items = [];
    this.rows = [];
    this.head = element("tr");
    for (const column of COLUMNS) {
      const button = element("button", { type: "button", on: { click: () => actions.sort(column.key) } }, column.label);
      this.head.append(element("th", { scope: "col" }, button));
    }
    this.body = element("tbody", { on: { keydown: (event) => this.key(event) } });
    this.range = element("span");
    this.previous = element("button", { type: "button", on: { click: () => this.turn(-1) } }, "Previous rows");
    this.next = element("button", { type: "button", on: { click: () => this.turn(1) } }, "Next rows");
    this.list = element("div", { class: "list" }, element("table", { "aria-label": "Items" }, element("thead", {}, this.head), this.body));
    this.root = element("div", {}, this.list, element("div", { class: "pager" }, this.previous, this.range, this.next));
  }

  show(items) {
    this.items = ordered(items);
    [...this.head.children].forEach((cell, index) => {
      const sorted = COLUMNS[index].key === state.sort;
      cell.setAttribute("aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
      cell.firstChild.textContent = COLUMNS[index].label + (sorted ? (state.down ? " \u25be" : " \u25b4") : "");
    });
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
    const cells = COLUMNS.map((column) => {
      const value = column.get(item);
      return element("td", { class: column.class || null }, column.show ? column.show(value) : untrusted(value));
    });
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

  // Show the page that holds an item and put the focus on its row.
  return(item) {
    const index = this.items.indexOf(item);
    if (index < 0) return;
    if (Math.floor(index / PAGE) !== state.page) this.page(Math.floor(index / PAGE));
    this.focusable(index % PAGE, true);
  }
}

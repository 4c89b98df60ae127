// The items as pages of rows. One row at a time is in the tab order; arrow keys move it, Enter opens the item.
const PAGE = 50;
const COLUMNS = [
  { key: "item", label: "item", get: (item) => about(item, "item"), class: "name" },
  { key: "split", label: "split", get: (item) => [about(item, "split"), about(item, "tier")].filter((own) => own).join(", ") },
  { key: "question", label: "question", get: (item) => brief(about(item, "question")), class: "q" },
  { key: "known", label: "known", get: (item) => about(item, "known"), show: yes, class: "num" },
  { key: "prior_margin", label: "prior margin", get: (item) => about(item, "prior_margin"), show: number, class: "num" },
  { key: "adapter_margin", label: "adapter margin", get: (item) => reading(item, "adapter_margin"), show: number, class: "num" },
  { key: "net_margin", label: "net margin", get: (item) => reading(item, "net_margin"), show: number, class: "num" },
  { key: "outcome", label: "outcome", get: outcome, show: (value) => ({ success: "\u2713 success", failure: "\u2717 failure" })[value] || value, class: "num" },
  { key: "top_token", label: "says", get: (item) => brief(reading(item, "top_token")), class: "says" },
];

class Table {
  constructor(act) {
    this.act = act;
    this.items = [];
    this.rows = [];
    this.head = element("tr");
    for (const column of COLUMNS) {
      const button = element("button", { type: "button", on: { click: () => act.sort(column.key) } }, column.label);
      this.head.append(element("th", { scope: "col" }, button));
    }
    this.body = element("tbody", { on: { keydown: (event) => this.key(event) } });
    this.where = element("span");
    this.back = element("button", { type: "button", on: { click: () => this.turn(-1) } }, "Previous rows");
    this.on = element("button", { type: "button", on: { click: () => this.turn(1) } }, "Next rows");
    this.list = element("div", { class: "list" }, element("table", { "aria-label": "Items" }, element("thead", {}, this.head), this.body));
    this.root = element("div", {}, this.list, element("div", { class: "pager" }, this.back, this.where, this.on));
  }

  show(items) {
    this.items = ordered(items);
    [...this.head.children].forEach((cell, place) => {
      const own = COLUMNS[place].key === state.sort;
      cell.setAttribute("aria-sort", own ? (state.down ? "descending" : "ascending") : "none");
      cell.firstChild.textContent = COLUMNS[place].label + (own ? (state.down ? " \u25be" : " \u25b4") : "");
    });
    this.page(state.page);
  }

  page(wanted) {
    const pages = Math.max(1, Math.ceil(this.items.length / PAGE));
    state.page = Math.min(Math.max(0, wanted), pages - 1);
    const from = state.page * PAGE, shown = this.items.slice(from, from + PAGE);
    this.rows = shown.map((item) => this.row(item));
    this.body.replaceChildren(...this.rows);
    if (this.rows.length) this.reach(Math.max(0, shown.indexOf(state.current)));
    this.list.scrollTop = 0;
    this.where.textContent = shown.length ? `Rows ${from + 1} to ${from + shown.length} of ${this.items.length}` : "No item fits these choices";
    this.back.disabled = state.page === 0;
    this.on.disabled = state.page === pages - 1;
  }

  row(item) {
    const cells = COLUMNS.map((column) => {
      const value = column.get(item);
      return element("td", { class: column.class || null }, column.show ? column.show(value) : said(value));
    });
    const current = item === state.current ? "true" : null;
    return element("tr", { tabindex: "-1", "aria-current": current, on: { click: () => this.act.open(item) } }, ...cells);
  }

  mark() {
    const shown = this.items.slice(state.page * PAGE, (state.page + 1) * PAGE);
    shown.forEach((item, place) => {
      if (item === state.current) this.rows[place].setAttribute("aria-current", "true");
      else this.rows[place].removeAttribute("aria-current");
    });
    if (shown.includes(state.current)) this.reach(shown.indexOf(state.current));
  }

  // Make one row the one that Tab stops at.
  reach(place, focus = false) {
    this.rows.forEach((row, own) => row.setAttribute("tabindex", own === place ? "0" : "-1"));
    if (focus) this.rows[place].focus();
  }

  turn(step) {
    this.page(state.page + step);
  }

  key(event) {
    const place = this.rows.indexOf(event.target);
    if (place < 0) return;
    const item = this.items[state.page * PAGE + place];
    const moves = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: this.rows.length - 1 };
    if (event.key in moves) this.reach(Math.min(Math.max(0, moves[event.key]), this.rows.length - 1), true);
    else if (event.key === "Enter" || event.key === " ") this.act.open(item);
    else if (event.key === "PageDown" || event.key === "PageUp") {
      this.turn(event.key === "PageDown" ? 1 : -1);
      this.reach(0, true);
    } else return;
    event.preventDefault();
  }

  // Show the page that holds an item and put the focus on its row.
  return(item) {
    const place = this.items.indexOf(item);
    if (place < 0) return;
    if (Math.floor(place / PAGE) !== state.page) this.page(Math.floor(place / PAGE));
    this.reach(place % PAGE, true);
  }
}

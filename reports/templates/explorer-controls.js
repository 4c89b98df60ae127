// The controls: what is filtered, further filters that are added one by one, the columns. They show the state; `change` sets it.
class Controls {
  constructor(change) {
    this.change = change;
    this.selects = new Map();
    this.search = this.typed("search", () => ({ words: this.search.value.trim().toLowerCase() }));
    this.add = element("select", { on: { change: () => this.added() } });
    const any = (name) => [["", "any"], ...distinct(name).map((value) => [value, brief(value)])];
    const measures = MEASURES.filter(([name]) => (data.readings[name] || []).some((column) => column.some((value) => value !== null)));
    this.root = element("div", { class: "controls", role: "group", "aria-label": "Which items" },
      this.choice("condition", "condition", data.conditions.map((name, index) => [index, brief(name)])),
      this.choice("split", "split", any("split")),
      distinct("tier").length ? this.choice("tier", "tier", any("tier")) : null,
      measures.length > 1 ? this.choice("measure", "measure", measures) : null,
      this.choice("outcome", "outcome", [["", "any"], ...OUTCOMES.filter(occurs).map((name) => [name, name])]),
      element("label", {}, "search text", this.search));
    this.further = element("div", { class: "controls", role: "group", "aria-label": "Further filters" }, element("label", {}, "filter by", this.add));
    this.fillAdd();
  }

  choice(label, key, options) {
    const box = element("select", { on: { change: () => { this.change({ [key]: key === "condition" ? Number(box.value) : box.value }); } } });
    for (const [value, text] of options) box.append(element("option", { value }, text));
    this.selects.set(key, box);
    return element("label", {}, label, box);
  }

  // A field whose text counts a moment after the last key.
  typed(type, choices) {
    let waiting = 0;
    const box = element("input", { type, size: "14", autocomplete: "off", on: { input: () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.change(choices(), { finished: false }), 120);
    } } });
    return box;
  }

  fillAdd() {
    this.add.append(element("option", { value: "" }, "choose a field"));
    const group = (label, pairs) => {
      if (pairs.length) this.add.append(element("optgroup", { label }, ...pairs.map(([key, text]) => element("option", { value: key }, brief(text)))));
    };
    const ofFields = (where) => [...FIELDS.values()].filter((field) => field.where === where && !["split", "tier", "outcome"].includes(field.key) &&
      (valuesOf(field).size > 1)).map((field) => [field.key, field.label]);
    group("two conditions", [...PAIRS]);
    group("of the item", ofFields("item"));
    group("in the item file", ofFields("meta"));
    group("under the condition", ofFields("condition"));
  }

  added() {
    const key = this.add.value;
    this.add.value = "";
    if (!key) return;
    this.change({ filters: [...state.filters, { key, value: null }] }, { finished: false });
    this.further.lastElementChild?.querySelector("select, input").focus();
  }

  // Show the state: every control its value, and a control for each further filter.
  show() {
    for (const [key, box] of this.selects) box.value = String(state[key]);
    if (document.activeElement !== this.search) this.search.value = state.words;
    const keys = JSON.stringify(state.filters.map(({ key }) => key));
    if (keys !== this.keys) {
      this.keys = keys;
      this.boxes = state.filters.map(({ key }, place) => this.filter(key, place));
      this.further.replaceChildren(this.further.firstChild, ...this.boxes.map(({ root }) => root));
    }
    this.boxes.forEach(({ set }, place) => set(state.filters[place].value));
  }

  filter(key, place) {
    const field = FIELDS.get(key), label = PAIRS.get(key) || field.label;
    const put = (value, finished) => this.change({ filters: state.filters.map((own, other) => (other === place ? { key, value } : own)) }, { finished });
    const drop = element("button", { type: "button", class: "drop", "aria-label": `Remove the filter ${brief(label)}`, on: { click: () => {
      this.change({ filters: state.filters.filter((_, other) => other !== place) });
      this.add.focus();
    } } }, "\u00d7");
    const way = PAIRS.has(key) ? "choice" : wayOf(field);
    const { nodes, set } = way === "range" ? this.range(brief(label), put) : way === "piece" ? this.piece(brief(label), put) : this.values(key, brief(label), put);
    return { root: element("div", { class: "filter" }, ...nodes, drop), set };
  }

  values(key, label, put) {
    const field = FIELDS.get(key);
    const values = PAIRS.has(key) ? data.conditions : [...new Set([...valuesOf(field)].map((value) => shownValue(field, value)))].sort();
    // "any" is the place that has no value: an empty value is the items that state none.
    const box = element("select", { on: { change: () => put(box.selectedIndex ? values[box.selectedIndex - 1] : null, true) } },
      element("option", {}, "any"), ...values.map((value) => element("option", {}, value === "" ? "not stated" : brief(value))));
    return { nodes: [element("label", {}, label, box)], set: (value) => { box.selectedIndex = value === null ? 0 : values.indexOf(value) + 1; } };
  }

  piece(label, put) {
    let waiting = 0;
    const box = element("input", { type: "search", size: "14", autocomplete: "off", on: { input: () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => put(box.value || null, false), 120);
    } } });
    return { nodes: [element("label", {}, `${label} contains`, box)], set: (value) => { if (document.activeElement !== box) box.value = value || ""; } };
  }

  range(label, put) {
    const boxes = ["at least", "at most"].map((side) => element("input", { type: "number", step: "any", size: "6", "aria-label": `${label} ${side}`, placeholder: side,
      on: { change: () => put(boxes.some((box) => box.value) ? boxes.map((box) => box.value).join("..") : null, true) } }));
    return { nodes: [element("div", { class: "range" }, element("span", {}, label), element("div", {}, ...boxes))],
      set: (value) => (value || "..").split("..").forEach((end, side) => { if (document.activeElement !== boxes[side]) boxes[side].value = end; }) };
  }
}

const occurs = (name) => ["success", "failure", "not measured"].includes(name) ||
  data.conditions.some((_, condition) => everyItem.some((item) => outcome(item, condition) === name));

// Which columns the table shows.
class Chooser {
  constructor(change) {
    this.boxes = new Map();
    const groups = [["of the item", "item"], ["under the condition", "condition"], ["in the item file", "meta"]].map(([label, where]) => {
      const fields = [...FIELDS.values()].filter((field) => field.where === where);
      return fields.length ? element("fieldset", {}, element("legend", {}, label), ...fields.map((field) => {
        const box = element("input", { type: "checkbox", on: { change: () => change({ columns: this.chosen() }) } });
        this.boxes.set(field.key, box);
        return element("label", { class: "check" }, box, brief(field.label));
      })) : null;
    });
    this.summary = element("summary", {});
    this.root = element("details", { class: "chooser" }, this.summary, ...groups.filter((group) => group));
  }

  // One column stays: a table without any shows nothing that could be chosen.
  chosen() {
    const keys = [...FIELDS.keys()].filter((key) => this.boxes.get(key).checked);
    return keys.length ? keys : [state.columns[0]];
  }

  show() {
    this.summary.textContent = `Columns (${state.columns.length} of ${FIELDS.size})`;
    for (const [key, box] of this.boxes) box.checked = state.columns.includes(key);
  }
}

// The open item: its question and answers, what the model says under each condition, and which layers moved the margin.
const FACTS = [
  ["question", "question"], ["document", "document"], ["document's answer", "answer"], ["old answer", "prior_answer"],
  ["knowledge point", "point"], ["wording", "wording"], ["training frequency", "frequency"],
  ["prior margin (nats)", "prior_margin"], ["prior strength, log P (nats)", "prior_logprob"],
  ["critical gain, measured", "critical_gain"], ["cause of failure", "cause"], ["gain that repairs", "repair_gain"],
];

class Detail {
  constructor(actions) {
    this.actions = actions;
    this.plots = [];
    this.root = element("section", { class: "detail", "aria-label": "The open item", hidden: "", on: {
      keydown: (event) => { if (event.key === "Escape") actions.back(); } } });
  }

  hide() {
    this.root.hidden = true;
    this.plots.forEach((plot) => plot.then((embedded) => embedded.finalize()));
    this.plots = [];
  }

  // `moved`: the reader asked for the item here, so that it gets the focus; one that a link names is scrolled to by the page.
  show(item, items, moved = true) {
    const index = items.indexOf(item);
    const title = element("h3", { tabindex: "-1" }, untrusted(brief(itemValue(item, "item"))));
    const step = (by, label) => {
      const button = element("button", { type: "button", on: { click: () => this.actions.open(items[index + by]) } }, label);
      button.disabled = index < 0 || items[index + by] === undefined;
      return button;
    };
    const drawn = [...mechanism(item, (condition) => this.actions.choose(condition, item, items)), ...profile(item)];
    this.root.replaceChildren(
      element("div", { class: "pager" }, step(-1, "Previous item"), step(1, "Next item"),
        element("button", { type: "button", on: { click: () => this.actions.back() } }, "Back to the list"),
        element("button", { type: "button", on: { click: () => this.actions.close() } }, "Close the item")),
      title, this.facts(item), element("h4", {}, "Under each condition"), this.readings(item),
      element("div", { class: "profiles" }, ...drawn.map(([figure]) => figure)));
    this.root.hidden = false;
    this.plots.forEach((plot) => plot.then((embedded) => embedded.finalize()));
    this.plots = drawn.map(([, draw]) => draw());
    if (!moved) return;
    title.focus({ preventScroll: true });
    this.root.scrollIntoView({ block: "nearest" });
  }

  facts(item) {
    const facts = element("dl");
    for (const [label, name] of FACTS) {
      const value = itemValue(item, name);
      if (value === null || value === "") continue;
      const text = typeof value === "number" ? String(Number(value.toPrecision(4))).replace("-", "\u2212")
        : name === "critical_gain" ? "no gain in range" : clipped(value);
      facts.append(element("dt", {}, label), element("dd", {}, text));
    }
    for (const field of FIELDS.values()) {
      const value = field.where === "meta" ? field.get(item) : null;
      if (value === null || value === "") continue;
      facts.append(element("dt", {}, untrusted(brief(field.label))), element("dd", {}, field.kind === "text" ? clipped(value) : String(shownValue(field, value))));
    }
    return facts;
  }

  readings(item) {
    const labels = ["condition", "adapter margin", "net margin", "push", "pull", ...MEASURES.map(([, label]) => label), "says", "P", "KL", "greedy answer or error"];
    const rows = data.conditions.map((name, condition) => {
      const value = (field) => readingValue(item, field, condition);
      if (value("status") === null) return null;
      return element("tr", {}, element("th", { scope: "row" }, untrusted(name)),
        ...["adapter_margin", "net_margin", "push", "pull"].map((field) => element("td", { class: "num" }, number(value(field)))),
        ...MEASURES.map(([field]) => element("td", { class: "num" }, yesNo(value(field)))),
        element("td", { class: "says" }, clipped(value("top_token"))), ...["top_prob", "kl"].map((field) => element("td", { class: "num" }, number(value(field)))),
        element("td", { class: "said" }, clipped(value("status") !== "ok" ? value("error") : value("answer_text"))));
    });
    const head = element("tr", {}, ...labels.map((text) => element("th", { scope: "col" }, text)));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
    const what = `readings of ${brief(itemValue(item, "item"))}`;
    return element("div", {}, scrolling("Readings", table), tableTools(table, what, fileOf(what)));
  }
}

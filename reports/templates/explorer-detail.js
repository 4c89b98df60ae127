// One item: what was asked, what the model said under each condition, and which layers moved the margin.
const FACTS = [
  ["question", "question"], ["document", "document"], ["document's answer", "answer"], ["held answer", "prior_answer"],
  ["knowledge point", "point"], ["wording", "wording"], ["training frequency", "frequency"],
  ["prior margin (nats)", "prior_margin"], ["prior strength, log P (nats)", "prior_logprob"],
  ["critical gain, measured", "critical_gain"],
];

class Detail {
  constructor(act) {
    this.act = act;
    this.drawn = [];
    this.root = element("section", { class: "detail", "aria-label": "The open item", hidden: "", on: {
      keydown: (event) => { if (event.key === "Escape") act.back(); } } });
  }

  show(item, items) {
    const place = items.indexOf(item);
    const title = element("h3", { tabindex: "-1" }, said(brief(about(item, "item"))));
    const step = (by, words) => {
      const button = element("button", { type: "button", on: { click: () => this.act.open(items[place + by]) } }, words);
      button.disabled = place < 0 || items[place + by] === undefined;
      return button;
    };
    const layers = profile(item);
    this.root.replaceChildren(
      element("div", { class: "pager" }, step(-1, "Previous item"), step(1, "Next item"),
        element("button", { type: "button", on: { click: () => this.act.back() } }, "Back to the list")),
      title, this.facts(item), element("h4", {}, "Under each condition"), this.readings(item),
      element("div", { class: "profiles" }, ...layers.map(([figure]) => figure)));
    this.root.hidden = false;
    this.drawn.forEach((drawing) => drawing.then((made) => made.finalize()));
    this.drawn = layers.map(([, draw]) => draw());
    title.focus({ preventScroll: true });
    this.root.scrollIntoView({ block: "nearest" });
  }

  facts(item) {
    const facts = element("dl");
    for (const [label, name] of FACTS) {
      const value = about(item, name);
      if (value === null || value === "") continue;
      const shown = typeof value === "number" ? String(value).replace("-", "\u2212")
        : name === "critical_gain" ? "no gain in range" : clipped(value);
      facts.append(element("dt", {}, label), element("dd", {}, shown));
    }
    return facts;
  }

  readings(item) {
    const labels = ["condition", "adapter margin", "net margin", "push", "pull", ...MEASURES.map(([, label]) => label), "says", "P", "greedy answer or error"];
    const rows = data.conditions.map((name, condition) => {
      const own = (field) => reading(item, field, condition);
      if (own("status") === null) return null;
      return element("tr", {}, element("th", { scope: "row" }, said(name)),
        ...["adapter_margin", "net_margin", "push", "pull"].map((field) => element("td", { class: "num" }, number(own(field)))),
        ...MEASURES.map(([field]) => element("td", { class: "num" }, yes(own(field)))),
        element("td", { class: "says" }, clipped(own("top_token"))), element("td", { class: "num" }, number(own("top_prob"))),
        element("td", { class: "said" }, clipped(own("status") === "error" ? own("error") : own("answer_text"))));
    });
    const head = element("tr", {}, ...labels.map((text) => element("th", { scope: "col" }, text)));
    return scrolling("Readings", element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  }
}

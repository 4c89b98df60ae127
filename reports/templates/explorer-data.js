// The page's data as fields of an item, and which items the reader's choices leave. An item is an index into the columns.
const data = JSON.parse(document.getElementById("item-data").textContent);
const textual = new Set(data.textual), truths = new Set(data.truths);
const everyItem = data.items.item.map((_, index) => index);

const MEASURES = [["success_top1", "top1"], ["success_margin", "margin"], ["success_answer", "answer"]];
const START = {
  condition: Math.max(0, data.conditions.indexOf("as-delivered")),
  measure: "success_top1",
  split: "", tier: "", outcome: "", words: "",
  filters: [], // {key, value}: a field's key, or "success" or "failure" with a condition's name
  brush: null, // {prior_margin: [low, high], adapter_margin: [low, high]} in nats
  columns: ["item", "split", "question", "known", "prior_margin", "adapter_margin", "net_margin", "outcome", "top_token"],
  sort: "prior_margin", down: true, page: 0,
  current: null,
};

function decoded(name, value) {
  return value !== null && textual.has(name) ? data.texts[value] : value;
}

function itemValue(item, name) {
  const column = data.items[name];
  return column ? decoded(name, column[item]) : null;
}

function readingValue(item, name, condition = state.condition) {
  const column = data.readings[name];
  return column ? decoded(name, column[condition][item]) : null;
}

const OUTCOMES = ["success", "failure", "not measured", "policy not applicable", "outcome not measured", "no reading"];
function outcome(item, condition = state.condition) {
  const status = readingValue(item, "status", condition);
  if (status === null) return "no reading";
  if (status === "error") return "not measured";
  if (status === "refused") return "policy not applicable";
  const won = readingValue(item, state.measure, condition);
  return won === null ? "outcome not measured" : won ? "success" : "failure";
}

// Fields, by which items are filtered, sorted and shown: `where` is "item", "condition" (the chosen one) or "meta".
const LABELS = {
  point: "knowledge point", prior_logprob: "prior strength", frequency: "training frequency", answer: "document's answer",
  prior_answer: "old answer", cause: "cause of failure", repair_gain: "gain that repairs", top_token: "says", top_prob: "P",
  kl: "KL", answer_text: "greedy answer", success_top1: "top1", success_margin: "margin", success_answer: "answer",
};
const WIDTHS = { item: "name", question: "q", document: "q", answer_text: "q", error: "q", top_token: "says" };
const KINDS = { text: "text", "true or false": "truth", numbers: "number" };
const kindOf = (name) => (textual.has(name) ? "text" : truths.has(name) ? "truth" : "number");
const labelOf = (name) => LABELS[name] || name.replaceAll("_", " ");
// The columns that are shown at first come first.
const place = ({ key }) => (START.columns.includes(key) ? START.columns.indexOf(key) : START.columns.length);
const FIELDS = new Map([
  ...Object.keys(data.items).map((name) => ({ key: name, where: "item", kind: kindOf(name), get: (item) => itemValue(item, name) })),
  ...Object.keys(data.readings).map((name) => ({ key: name, where: "condition", kind: kindOf(name), get: (item) => readingValue(item, name) })),
  ...data.meta.map(({ name, kind, values }) => ({
    key: `meta.${name}`, label: name, where: "meta", kind: KINDS[kind],
    get: (item) => (values[item] !== null && kind === "text" ? data.texts[values[item]] : values[item]),
  })),
  { key: "outcome", where: "condition", kind: "text", get: outcome },
].sort((a, b) => place(a) - place(b)).map((field) => [field.key, { label: labelOf(field.key), width: WIDTHS[field.key] || (field.kind === "text" ? null : "num"), ...field }]));
// In the table the split stands with the tier.
FIELDS.get("split").shown = (item) => [itemValue(item, "split"), itemValue(item, "tier")].filter((name) => name).join(", ");

if (data.items.split.some((split) => decoded("split", split) === "conflict")) START.split = "conflict";
const state = { ...START };

const numeric = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
const distinct = (name) => [...valuesOf(FIELDS.get(name))].filter((value) => value);

// The values that a field has in any item, under any condition; null where one has none.
const seen = new Map();
function valuesOf(field) {
  if (!seen.has(field.key)) {
    const columns = field.where === "condition" ? data.readings[field.key] || [] : [everyItem.map(field.get)];
    seen.set(field.key, new Set(field.where === "condition" ? columns.flat().map((value) => decoded(field.key, value)) : columns[0]));
  }
  return seen.get(field.key);
}

// How a field is filtered: one of its values, a range, or a piece of its text.
const MANY = 40;
function wayOf(field) {
  if (field.kind === "number") return "range";
  return field.kind === "text" && valuesOf(field).size > MANY ? "piece" : "choice";
}

const PAIRS = new Map([["success", "succeeds under"], ["failure", "fails under"]]);
const shownValue = (field, value) => (value === null || value === "" ? "" : field.kind === "truth" ? (value ? "yes" : "no") : value);

function rangeOf(text) {
  const match = /^(-?[\d.e+-]*)\.\.(-?[\d.e+-]*)$/.exec(text);
  if (!match) return null;
  const ends = [match[1] === "" ? -Infinity : Number(match[1]), match[2] === "" ? Infinity : Number(match[2])];
  return ends.some(Number.isNaN) ? null : ends;
}

// Whether a filter means anything in this run, and the test that it makes of an item.
function testOf({ key, value }) {
  if (value === null) return null; // added, and no value chosen yet
  if (PAIRS.has(key)) {
    const condition = data.conditions.indexOf(value);
    return condition < 0 ? null : (item) => outcome(item, condition) === key;
  }
  const field = FIELDS.get(key);
  if (!field) return null;
  const way = wayOf(field);
  if (way === "choice") {
    if (![...valuesOf(field)].some((own) => shownValue(field, own) === value)) return null;
    return (item) => shownValue(field, field.get(item)) === value;
  }
  if (way === "piece") {
    const words = value.toLowerCase();
    return words === "" ? null : (item) => (field.get(item) || "").toLowerCase().includes(words);
  }
  const ends = rangeOf(value);
  return ends && ((item) => {
    const own = numeric(field.get(item));
    return own !== null && own >= ends[0] && own <= ends[1];
  });
}

// Each text is searched once, however many readings share it.
let lowered = null;
function textMatcher(words) {
  if (!words) return null;
  lowered = lowered || data.texts.map((text) => text.toLowerCase());
  const hit = lowered.map((text) => text.includes(words));
  const columns = [
    ...Object.keys(data.items).filter((name) => textual.has(name)).map((name) => data.items[name]),
    ...data.meta.filter((field) => field.kind === "text").map((field) => field.values),
    ...Object.keys(data.readings).filter((name) => textual.has(name)).flatMap((name) => data.readings[name]),
  ];
  return (item) => columns.some((column) => column[item] !== null && hit[column[item]]);
}

// Items that the controls leave. The brush is applied by `brushed`: the plot also shows, faded, what the brush leaves out.
function chosen() {
  const tests = [
    state.split && ((item) => itemValue(item, "split") === state.split),
    state.tier && ((item) => itemValue(item, "tier") === state.tier),
    state.outcome && ((item) => outcome(item) === state.outcome),
    ...state.filters.map(testOf),
    textMatcher(state.words),
  ].filter((test) => test);
  return everyItem.filter((item) => tests.every((test) => test(item)));
}

function margins(item) {
  return { prior_margin: itemValue(item, "prior_margin"), adapter_margin: readingValue(item, "adapter_margin") };
}

function brushed(items) {
  if (!state.brush) return items;
  return items.filter((item) => {
    const both = margins(item);
    return Object.entries(state.brush).every(([name, [low, high]]) =>
      typeof both[name] === "number" && both[name] >= low && both[name] <= high);
  });
}

function ordered(items) {
  const field = FIELDS.get(state.sort), get = field.shown || field.get;
  return items.map((item) => [numeric(get(item)), item]).sort(([a, first], [b, second]) => {
    if (a === null || b === null) return (a === null) - (b === null) || first - second;
    return (a < b ? -1 : a > b ? 1 : 0) * (state.down ? -1 : 1) || first - second;
  }).map(([, item]) => item);
}

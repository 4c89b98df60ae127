// The page's data, and which items the reader's choices leave. An item is an index into the columns.
const data = JSON.parse(document.getElementById("item-data").textContent);
const textual = new Set(data.textual);
const everyItem = data.items.item.map((_, index) => index);

const MEASURES = [["success_top1", "top1"], ["success_margin", "margin"], ["success_answer", "answer"]];
const state = {
  condition: Math.max(0, data.conditions.indexOf("as-delivered")),
  measure: "success_top1",
  split: "", tier: "", outcome: "", words: "",
  brush: null, // {prior_margin: [low, high], adapter_margin: [low, high]} in nats
  sort: "prior_margin", down: true, page: 0,
  current: null,
};

function itemValue(item, name) {
  const column = data.items[name];
  return column ? decoded(name, column[item]) : null;
}

function readingValue(item, name, condition = state.condition) {
  const column = data.readings[name];
  return column ? decoded(name, column[condition][item]) : null;
}

function decoded(name, value) {
  return value !== null && textual.has(name) ? data.texts[value] : value;
}

function outcome(item) {
  const status = readingValue(item, "status");
  if (status === null) return "no reading";
  if (status === "error") return "not measured";
  if (status === "refused") return "policy not applicable";
  const won = readingValue(item, state.measure);
  return won === null ? "outcome not measured" : won ? "success" : "failure";
}

function distinct(name) {
  return [...new Set(everyItem.map((item) => itemValue(item, name)))].filter((value) => value);
}

// Each text is searched once, however many readings share it.
let lowered = null;
function textMatcher(words) {
  if (!words) return null;
  lowered = lowered || data.texts.map((text) => text.toLowerCase());
  const hit = lowered.map((text) => text.includes(words));
  const columns = [
    ...Object.keys(data.items).filter((name) => textual.has(name)).map((name) => data.items[name]),
    ...Object.keys(data.readings).filter((name) => textual.has(name)).flatMap((name) => data.readings[name]),
  ];
  return (item) => columns.some((column) => column[item] !== null && hit[column[item]]);
}

// Items that the controls leave. The brush is applied by `brushed`: the plot also shows, faded, what the brush leaves out.
function chosen() {
  const matches = textMatcher(state.words);
  return everyItem.filter((item) =>
    (!state.split || itemValue(item, "split") === state.split) &&
    (!state.tier || itemValue(item, "tier") === state.tier) &&
    (!state.outcome || outcome(item) === state.outcome) &&
    (!matches || matches(item)));
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
  const get = COLUMNS.find((column) => column.key === state.sort).get;
  const rank = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
  return items.map((item) => [rank(get(item)), item]).sort(([a, first], [b, second]) => {
    if (a === null || b === null) return (a === null) - (b === null) || first - second;
    return (a < b ? -1 : a > b ? 1 : 0) * (state.down ? -1 : 1) || first - second;
  }).map(([, item]) => item);
}

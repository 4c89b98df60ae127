// What the page holds, and which items the reader's choices leave. An item is its place in the columns.
const data = JSON.parse(document.getElementById("item-data").textContent);
const textual = new Set(data.textual);
const everyone = data.items.item.map((_, place) => place);

const MEASURES = [["success_top1", "top1"], ["success_margin", "margin"], ["success_answer", "answer"]];
const state = {
  condition: Math.max(0, data.conditions.indexOf("as-delivered")),
  measure: "success_top1",
  split: "", tier: "", outcome: "", words: "",
  brush: null, // {prior_margin: [low, high], adapter_margin: [low, high]} in nats
  sort: "prior_margin", down: true, page: 0,
  current: null,
};

function about(item, name) {
  const column = data.items[name];
  return column ? decoded(name, column[item]) : null;
}

function reading(item, name, condition = state.condition) {
  const column = data.readings[name];
  return column ? decoded(name, column[condition][item]) : null;
}

function decoded(name, value) {
  return value !== null && textual.has(name) ? data.texts[value] : value;
}

function outcome(item) {
  const status = reading(item, "status");
  if (status === null) return "no reading";
  if (status === "error") return "not measured";
  const won = reading(item, state.measure);
  return won === null ? "outcome not measured" : won ? "success" : "failure";
}

function kinds(name) {
  return [...new Set(everyone.map((item) => about(item, name)))].filter((value) => value);
}

// Each text is searched once, however many readings share it.
let lowered = null;
function holding(words) {
  if (!words) return null;
  lowered = lowered || data.texts.map((text) => text.toLowerCase());
  const hit = lowered.map((text) => text.includes(words));
  const columns = [
    ...Object.keys(data.items).filter((name) => textual.has(name)).map((name) => data.items[name]),
    ...Object.keys(data.readings).filter((name) => textual.has(name)).flatMap((name) => data.readings[name]),
  ];
  return (item) => columns.some((column) => column[item] !== null && hit[column[item]]);
}

// Items that the controls leave; the brush is applied by `brushed`, because the plot shows what it fades.
function chosen() {
  const holds = holding(state.words);
  return everyone.filter((item) =>
    (!state.split || about(item, "split") === state.split) &&
    (!state.tier || about(item, "tier") === state.tier) &&
    (!state.outcome || outcome(item) === state.outcome) &&
    (!holds || holds(item)));
}

function margins(item) {
  return { prior_margin: about(item, "prior_margin"), adapter_margin: reading(item, "adapter_margin") };
}

function brushed(items) {
  if (!state.brush) return items;
  return items.filter((item) => {
    const own = margins(item);
    return Object.entries(state.brush).every(([name, [low, high]]) =>
      typeof own[name] === "number" && own[name] >= low && own[name] <= high);
  });
}

function ordered(items) {
  const get = COLUMNS.find((column) => column.key === state.sort).get;
  const rank = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
  return items.map((item) => [rank(get(item)), item]).sort(([a, one], [b, other]) => {
    if (a === null || b === null) return (a === null) - (b === null) || one - other;
    return (a < b ? -1 : a > b ? 1 : 0) * (state.down ? -1 : 1) || one - other;
  }).map(([, item]) => item);
}

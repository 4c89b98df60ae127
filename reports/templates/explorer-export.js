// The selection as a file: one row per item and condition, every column, numbers as the page holds them.
const EXPORTED = [...FIELDS.values()].filter((field) => field.key !== "outcome");
const OF_ITEM = EXPORTED.filter((field) => field.where !== "condition"), OF_READING = EXPORTED.filter((field) => field.where === "condition");

// Rows as lists of values in the order of the names; `conditions` are places in the page's list.
function exported(items, conditions) {
  const names = [...OF_ITEM.map((field) => field.key), "condition", ...OF_READING.map((field) => field.key)];
  const rows = items.flatMap((item) => {
    const own = OF_ITEM.map((field) => truthOf(field, field.get(item)));
    return conditions.filter((condition) => readingValue(item, "status", condition) !== null).map((condition) =>
      [...own, data.conditions[condition], ...OF_READING.map((field) => truthOf(field, readingValue(item, field.key, condition)))]);
  });
  return { names, rows };
}

const truthOf = (field, value) => (field.kind === "truth" && value !== null ? Boolean(value) : value);

// RFC 4180. A text that a spreadsheet could take for a formula has an apostrophe put before it, as has one that begins with
// an apostrophe, so that taking one away gives every text back. Numbers stay numbers.
const FORMULA = /^['=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
function csvCell(value) {
  if (value === null) return "";
  if (typeof value !== "string" || value === "inf" || value === "-inf") return String(value);
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return safe === "" || /[",\r\n;\t]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function csvOf({ names, rows }) {
  return [names, ...rows].map((row) => row.map(csvCell).join(",") + "\r\n").join("");
}

function jsonLinesOf({ names, rows }) {
  const keys = names.map((name) => JSON.stringify(name));
  return rows.map((row) => `{${row.map((value, place) => `${keys[place]}: ${JSON.stringify(value)}`).join(", ")}}\n`).join("");
}

const FORMS = [["CSV", "csv", "text/csv", csvOf], ["JSON Lines", "jsonl", "application/jsonl", jsonLinesOf]];
function exportTools(selected) {
  const every = element("input", { type: "checkbox" });
  const save = (ending, type, form) => {
    const items = selected(), conditions = every.checked ? data.conditions.map((_, place) => place) : [state.condition];
    const name = `${data.name}-${items.length}-items.${ending}`;
    download(name, new Blob([form(exported(items, conditions))], { type }));
    announce(`saved as ${name}`);
  };
  return element("div", { class: "tools", role: "group", "aria-label": "Export the selection" },
    ...FORMS.map(([label, ending, type, form]) => element("button", { type: "button", on: { click: () => save(ending, type, form) } }, `Export ${label}`)),
    element("label", { class: "check" }, every, "all conditions"));
}

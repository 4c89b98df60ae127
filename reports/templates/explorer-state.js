// The view as the address's fragment: #items&condition=slb&outcome=failure&item=... Parts that mean nothing here are left out.
// Each part: `write` gives a view's text, `read` puts a text into a view if it fits; text is encoded but where `raw`.
const among = (name) => (view, text) => member(view, name, text, (own) => own === "" || distinct(name).includes(own));
const PART = new Map(Object.entries({
  condition: {
    write: (view) => data.conditions[view.condition],
    read: (view, text) => member(view, "condition", data.conditions.indexOf(text), (place) => place >= 0),
  },
  measure: {
    write: (view) => MEASURES.find(([name]) => name === view.measure)[1],
    read: (view, text) => member(view, "measure", MEASURES.find(([, label]) => label === text)?.[0], (name) => name in data.readings),
  },
  split: { write: (view) => view.split, read: among("split") },
  tier: { write: (view) => view.tier, read: among("tier") },
  outcome: { write: (view) => view.outcome, read: (view, text) => member(view, "outcome", text, (own) => own === "" || OUTCOMES.includes(own)) },
  search: { write: (view) => view.words, read: (view, text) => member(view, "words", text.trim().toLowerCase(), () => true) },
  selection: {
    write: (view) => (view.brush ? AXES.map((name) => view.brush[name].map(short).join("..")).join(",") : ""),
    read: (view, text) => member(view, "brush", brushOf(text), (brush) => brush !== null),
  },
  columns: {
    raw: true,
    write: (view) => view.columns.map(encoded).join(","),
    read: (view, text) => {
      const named = new Set(text.split(",").map(plain));
      return member(view, "columns", [...FIELDS.keys()].filter((key) => named.has(key)), (keys) => keys.length > 0);
    },
  },
  sort: {
    write: (view) => (view.down ? "-" : "") + view.sort,
    read: (view, text) => { if (member(view, "sort", text.replace(/^-/, ""), (key) => FIELDS.has(key))) view.down = text.startsWith("-"); },
  },
  page: { write: (view) => String(view.page + 1), read: (view, text) => member(view, "page", Number(text) - 1, (page) => Number.isSafeInteger(page) && page >= 0) },
  item: {
    write: (view) => (view.current === null ? "" : itemValue(view.current, "item")),
    read: (view, text) => member(view, "current", everyItem.find((item) => itemValue(item, "item") === text), (item) => item !== undefined),
  },
}));
const AXES = ["prior_margin", "adapter_margin"];
const MOST_PARTS = 200;

const short = (value) => String(Number(value.toPrecision(6)));
function member(view, name, value, fits) {
  const well = Boolean(fits(value));
  if (well) view[name] = value;
  return well;
}

function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null; // a torn escape
  }
}

function brushOf(text) {
  const ends = text.split(",").map(rangeOf);
  const sound = ends.length === 2 && ends.every((own) => own && own.every(Number.isFinite) && own[0] <= own[1]);
  return sound ? Object.fromEntries(AXES.map((name, place) => [name, ends[place]])) : null;
}

// The open item is `item`, so that the filter by an item's name has another.
const NAMED = "item.contains";
const keyOf = (part) => (part === NAMED ? "item" : part), partOf = (key) => (key === "item" ? NAMED : key);

// The view that a fragment names, or null for one that names another part of the page.
function viewOf(hash) {
  const [head, ...parts] = hash.replace(/^#/, "").split("&");
  if (head !== "items") return null;
  const view = { ...START, filters: [] };
  for (const part of parts.slice(0, MOST_PARTS)) {
    const cut = part.indexOf("=");
    const key = plain(part.slice(0, Math.max(0, cut))), known = PART.get(key), rest = part.slice(cut + 1);
    const value = known?.raw ? rest : plain(rest);
    if (cut < 1 || key === null || value === null) continue;
    if (known) known.read(view, value);
    else if (testOf({ key: keyOf(key), value })) view.filters.push({ key: keyOf(key), value });
  }
  return view;
}

function fragment() {
  const parts = [...PART].filter(([, part]) => part.write(state) !== part.write(START))
    .map(([key, part]) => `${key}=${part.raw ? part.write(state) : encoded(part.write(state))}`);
  const filters = state.filters.filter(({ value }) => value !== null).map(({ key, value }) => `${encoded(partOf(key))}=${encoded(value)}`);
  return ["#items", ...parts, ...filters].join("&");
}

function encoded(text) {
  return encodeURIComponent(text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd"));
}

// Choices that are finished make an entry of the history, what changes while one types or drags changes the last entry. It is
// written once the choice is shown: writing takes the browser as long as drawing the table.
let later = 0;
function record(finished) {
  clearTimeout(later);
  later = setTimeout(() => write(finished ? "pushState" : "replaceState"), finished ? 0 : 300);
}

function write(how) {
  const own = fragment();
  if (own === (location.hash || "#items")) return;
  try {
    history[how]({ view: true }, "", own);
  } catch {
    // a browser that lets no script change the address of a file: the page goes on without
  }
}

// A view is restored where an address names one, and where the reader goes back to an entry that had one.
function follow(restore) {
  const view = viewOf(location.hash);
  try {
    history.replaceState({ view: true }, "");
  } catch {
    // as above
  }
  if (view && location.hash.includes("&")) restore(view, true);
  window.addEventListener("popstate", (event) => {
    const named = viewOf(location.hash);
    if (event.state?.view) restore(named || { ...START, filters: [] }, false);
    else if (named && location.hash.includes("&")) restore(named, true);
  });
}

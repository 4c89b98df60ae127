
"use strict";
// The item explorer: a scatter and a table over the page's own JSON. Text only ever enters as text nodes.
(() => {
  const root = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("item-data").textContent);
  if (!data.items.length) return;
  const at = Object.fromEntries(data.fields.map((name, place) => [name, place]));
  const SVG = "http://www.w3.org/2000/svg";
  const state = { condition: Math.max(0, data.conditions.indexOf("as-delivered")), split: data.items.some((item) => item.split === "conflict") ? "conflict" : "", tier: "", outcome: "", text: "", sort: "prior_margin", down: true, picked: null, current: null };

  function element(name, options = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(options)) {
      if (key === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
      else if (key === "class") made.className = value;
      else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  function drawn(name, options = {}, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(options)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const said = (text) => text === null || text === undefined || text === "" ? "\u2013" : element("bdi", {}, String(text));
  const number = (value) => typeof value === "number" ? value.toFixed(Math.abs(value) < 10 ? 2 : 1).replace("-", "\u2212") : value === "inf" ? "never" : "\u2013";
  const yes = (value) => value === null || value === undefined ? "\u2013" : value ? "\u2713 yes" : "\u2717 no";
  const reading = (item, name) => { const own = item.readings[state.condition]; return own ? own[at[name]] : null; };
  const values = (name) => [...new Set(data.items.map((item) => item[name]).filter((value) => value))];

  const columns = [
    { key: "item", label: "item", get: (item) => item.item },
    { key: "split", label: "split", get: (item) => item.tier ? `${item.split}, ${item.tier}` : item.split },
    { key: "question", label: "question", get: (item) => item.question, class: "q" },
    { key: "known", label: "known", get: (item) => item.known, show: yes, class: "num" },
    { key: "prior_margin", label: "prior margin", get: (item) => item.prior_margin, show: number, class: "num" },
    { key: "adapter_margin", label: "adapter margin", get: (item) => reading(item, "adapter_margin"), show: number, class: "num" },
    { key: "net_margin", label: "net margin", get: (item) => reading(item, "net_margin"), show: number, class: "num" },
    { key: "success_top1", label: "top1", get: (item) => reading(item, "success_top1"), show: yes, class: "num" },
    { key: "top_token", label: "says", get: (item) => reading(item, "top_token") },
  ];

  function choice(label, key, options) {
    const box = element("select", { on: { change: () => { state[key] = key === "condition" ? Number(box.value) : box.value; render(); } } });
    for (const [value, text] of options) box.append(element("option", { value }, text));
    box.value = state[key];
    return element("label", {}, label, box);
  }
  const search = element("input", { type: "search", size: "18" });
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => { state.text = search.value.toLowerCase(); render(); }, 120); });
  const clear = element("button", { type: "button", on: { click: () => { state.picked = null; render(); } } }, "Clear selection");
  const any = (name) => [["", "any"], ...values(name).map((value) => [value, value])];
  const controls = element("div", { class: "controls" },
    choice("condition", "condition", data.conditions.map((name, place) => [place, name])),
    choice("split", "split", any("split")),
    values("tier").length ? choice("tier", "tier", any("tier")) : null,
    choice("outcome (top1)", "outcome", [["", "any"], ["won", "success"], ["lost", "failure"], ["error", "not measured"]]),
    element("label", {}, "search text", search), clear);
  const status = element("p", { class: "fine", role: "status" });
  const plot = element("div", { class: "plot" });
  const head = element("tr");
  const body = element("tbody");
  const list = element("div", { class: "list", tabindex: "0", role: "group", "aria-label": "Items" }, element("table", {}, element("thead", {}, head), body));
  const detail = element("div", { class: "detail", "aria-live": "polite" });
  detail.hidden = true;

  for (const column of columns) {
    const button = element("button", { type: "button", on: { click: () => { state.down = state.sort === column.key ? !state.down : false; state.sort = column.key; render(); } } }, column.label);
    head.append(element("th", { scope: "col" }, button));
  }

  const haystacks = new Map();
  function haystack(item) {
    if (!haystacks.has(item)) haystacks.set(item, [item.item, item.point, item.question, item.document, item.answer, item.prior_answer, ...item.readings.map((own) => own ? `${own[at.top_token]} ${own[at.answer_text]}` : "")].join(" ").toLowerCase());
    return haystacks.get(item);
  }
  function outcome(item) {
    if (reading(item, "status") === "error") return "error";
    const won = reading(item, "success_top1");
    return won === null ? "none" : won ? "won" : "lost";
  }
  function matches(item) {
    return (!state.split || item.split === state.split) && (!state.tier || item.tier === state.tier) && (!state.outcome || outcome(item) === state.outcome) && (!state.text || haystack(item).includes(state.text));
  }
  function ordered(items) {
    const get = columns.find((column) => column.key === state.sort).get;
    const rank = (value) => value === null || value === undefined ? null : value === "inf" ? Infinity : typeof value === "boolean" ? Number(value) : value;
    return items.map((item) => [rank(get(item)), item]).sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return (a < b ? -1 : a > b ? 1 : 0) * (state.down ? -1 : 1);
    }).map(([, item]) => item);
  }

  function scatter(items) {
    const all = data.items.filter((item) => typeof item.prior_margin === "number" && typeof reading(item, "adapter_margin") === "number" && matches(item));
    plot.hidden = !all.length;
    if (!all.length) return;
    const W = 900, H = 360, L = 60, B = 44, T = 12, R = 12;
    const xs = all.map((item) => item.prior_margin), ys = all.map((item) => reading(item, "adapter_margin"));
    const span = (own) => { const low = Math.min(...own), high = Math.max(...own), room = (high - low || 1) * 0.06; return [low - room, high + room]; };
    const [x0, x1] = span(xs), [y0, y1] = span(ys);
    const X = (value) => L + (value - x0) / (x1 - x0) * (W - L - R), Y = (value) => H - B - (value - y0) / (y1 - y0) * (H - B - T);
    const svg = drawn("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Prior margin against adapter margin; the table below lists the same items" });
    svg.append(drawn("rect", { class: "frame", x: L, y: T, width: W - L - R, height: H - B - T }));
    const low = Math.max(x0, y0), high = Math.min(x1, y1);
    if (low < high) svg.append(drawn("line", { class: "line", x1: X(low), y1: Y(low), x2: X(high), y2: Y(high) }));
    for (const [low, high, place] of [[x0, x1, 0], [y0, y1, 1]]) {
      const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((size) => (high - low) / size <= 9) || 1000;
      for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
        const text = String(Number(tick.toFixed(2))).replace("-", "\u2212");
        svg.append(place ? drawn("text", { x: L - 6, y: Y(tick) + 4, "text-anchor": "end" }, text) : drawn("text", { x: X(tick), y: H - B + 16, "text-anchor": "middle" }, text));
      }
    }
    svg.append(drawn("text", { x: (L + W) / 2, y: H - 8, "text-anchor": "middle" }, "prior margin (nats)"));
    svg.append(drawn("text", { x: 16, y: H / 2, "text-anchor": "middle", transform: `rotate(-90 16 ${H / 2})` }, "adapter margin (nats)"));
    for (const item of all) {
      const won = outcome(item) === "won";
      const mark = drawn("circle", { cx: X(item.prior_margin), cy: Y(reading(item, "adapter_margin")), r: 4.5, "stroke-width": 1.4 });
      mark.setAttribute("class", `${won ? "won" : "lost"}${item.known ? "" : " unknown"}${state.picked && !state.picked.has(item) ? " faded" : ""}${state.current === item ? " current" : ""}`);
      mark.append(drawn("title", {}, `${item.item}: ${item.question}`));
      mark.addEventListener("click", () => open(item));
      svg.append(mark);
    }
    let start = null, brush = null;
    const where = (event) => { const box = svg.getBoundingClientRect(); return [(event.clientX - box.left) * W / box.width, (event.clientY - box.top) * H / box.height]; };
    svg.addEventListener("pointerdown", (event) => { if (event.button === 0) start = where(event); });
    svg.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [x, y] = where(event);
      if (!brush && Math.hypot(x - start[0], y - start[1]) > 6) { brush = drawn("rect", { class: "brush" }); svg.append(brush); svg.setPointerCapture(event.pointerId); }
      if (!brush) return;
      for (const [key, value] of Object.entries({ x: Math.min(x, start[0]), y: Math.min(y, start[1]), width: Math.abs(x - start[0]), height: Math.abs(y - start[1]) })) brush.setAttribute(key, value);
    });
    svg.addEventListener("pointerup", (event) => {
      if (brush) {
        const [x, y] = where(event), [left, right] = [x, start[0]].sort((a, b) => a - b), [top, bottom] = [y, start[1]].sort((a, b) => a - b);
        state.picked = new Set(all.filter((item) => { const px = X(item.prior_margin), py = Y(reading(item, "adapter_margin")); return px >= left && px <= right && py >= top && py <= bottom; }));
        if (!state.picked.size) state.picked = null;
        render();
      }
      start = brush = null;
    });
    plot.replaceChildren(svg);
  }

  function table(items) {
    [...head.children].forEach((cell, place) => {
      const own = columns[place].key === state.sort;
      cell.setAttribute("aria-sort", own ? (state.down ? "descending" : "ascending") : "none");
      cell.firstChild.textContent = columns[place].label + (own ? (state.down ? " \u25be" : " \u25b4") : "");
    });
    const rows = document.createDocumentFragment();
    for (const item of ordered(items)) {
      const row = element("tr", item === state.current ? { class: "current" } : {});
      columns.forEach((column, place) => {
        const value = column.get(item);
        const content = column.show ? column.show(value) : said(value);
        row.append(element("td", { class: column.class || "" }, place ? content : element("button", { type: "button", on: { click: () => open(item) } }, content)));
      });
      rows.append(row);
    }
    body.replaceChildren(rows);
  }

  function open(item) {
    state.current = item;
    const facts = element("dl");
    for (const [label, value] of [["question", item.question], ["document", item.document], ["document's answer", item.answer], ["held answer", item.prior_answer], ["knowledge point", item.point], ["wording", item.wording], ["training frequency", item.frequency], ["prior strength, log P (nats)", item.prior_logprob], ["critical gain, measured", item.critical_gain === "inf" ? "no gain in range" : item.critical_gain]]) {
      if (value !== null && value !== undefined && value !== "") facts.append(element("dt", {}, label), element("dd", {}, said(value)));
    }
    const rows = element("tbody");
    data.conditions.forEach((name, place) => {
      const own = item.readings[place];
      if (!own) return;
      const failed = own[at.status] === "error";
      rows.append(element("tr", {}, element("th", { scope: "row" }, said(name)),
        ...["adapter_margin", "net_margin", "push", "pull"].map((field) => element("td", { class: "num" }, number(own[at[field]]))),
        element("td", {}, yes(own[at.success_top1])), element("td", {}, said(own[at.top_token])), element("td", { class: "num" }, number(own[at.top_prob])),
        element("td", {}, failed ? said(own[at.error]) : said(own[at.answer_text]))));
    });
    const labels = ["condition", "adapter margin", "net margin", "push", "pull", "top1", "says", "P", "greedy answer or error"];
    detail.replaceChildren(element("h3", {}, said(item.item)), facts,
      element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Readings" }, element("table", {}, element("thead", {}, element("tr", {}, ...labels.map((text) => element("th", { scope: "col" }, text)))), rows)),
      ...profile(item));
    detail.hidden = false;
    render();
    detail.scrollIntoView({ block: "nearest" });
  }

  function profile(item) {
    const rows = (item.layers || []).filter((row) => typeof row[2] === "number");
    if (!rows.length) return [];
    const W = 520, H = 130, most = Math.max(...rows.map((row) => Math.abs(row[2]))) || 1, wide = (W - 40) / rows.length;
    const svg = drawn("svg", { viewBox: `0 0 ${W} ${H}`, class: "bars", role: "img", "aria-label": "What each layer adds to the adapter margin" });
    rows.forEach((row, place) => {
      const tall = Math.abs(row[2]) / most * 46, up = row[2] >= 0;
      svg.append(drawn("rect", { class: up ? "up" : "down", x: 30 + place * wide + 1, y: up ? 56 - tall : 56, width: Math.max(1, wide - 2), height: tall }));
      if (rows.length <= 16 || place % 5 === 0) svg.append(drawn("text", { x: 30 + (place + 0.5) * wide, y: 124, "text-anchor": "middle", "font-size": 11, fill: "currentColor" }, String(row[0]).replace("-", "\u2212")));
    });
    return [element("p", { class: "fine" }, `What each layer adds to the adapter margin, as delivered (attribution, base minus adapted; up favours the document; tallest ${most.toFixed(2)} nats)`), svg];
  }

  function render() {
    const found = data.items.filter((item) => matches(item) && (!state.picked || state.picked.has(item)));
    clear.disabled = !state.picked;
    const left = data.left_out;
    status.textContent = `${found.length} of ${data.items.length} items` + (state.picked ? ", selected in the plot" : "") + (left.items ? `; ${left.items} more are in readings/*.parquet` : "") + (left.conditions.length ? `; conditions left out here: ${left.conditions.join(", ")}` : "") + ". Drag in the plot to select; open an item by its name.";
    scatter(found);
    table(found);
  }
  root.append(controls, status, plot, list, detail);
  root.hidden = false;
  render();
})();

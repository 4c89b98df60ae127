
"use strict";
(() => {
  const table = document.getElementById("runs"), body = table.tBodies[0], rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells], words = document.getElementById("words");
  const count = document.getElementById("count");
  const said = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const value = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind !== "number") return cell.textContent.trim().toLowerCase();
    return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
  };
  const sort = (column) => {
    const head = heads[column], kind = head.dataset.kind, usual = kind === "number" ? "descending" : "ascending";
    const other = usual === "ascending" ? "descending" : "ascending";
    const way = head.getAttribute("aria-sort") === usual ? other : usual, sign = way === "ascending" ? 1 : -1;
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way);
    const keyed = rows.map((row, place) => [value(row, column, kind), place, row]);
    // what has no value stands last, whichever way
    const last = (key) => key === null || key === "" || key === "\u2013";
    keyed.sort(([a, m], [b, n]) => last(a) - last(b) || (last(a) ? 0 : sign * (kind === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0)) || m - n);
    body.append(...keyed.map(([, , row]) => row));
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.replaceChildren(button);
  });
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted.every((word) => said.get(row).includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} runs`;
  };
  words.addEventListener("input", filter);
  document.getElementById("filter").hidden = false;
  filter();
})();

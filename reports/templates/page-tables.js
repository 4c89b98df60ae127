// A table's cells as the reader sees them, and as Markdown and LaTeX that show them unchanged.
function cellsOf(table) {
  const rows = [...table.rows].map((row) => [...row.cells].flatMap((cell) => [cellText(cell), ...Array(cell.colSpan - 1).fill("")]));
  const width = Math.max(...rows.map((row) => row.length));
  const heads = table.tHead ? table.tHead.rows.length : 0;
  const full = rows.map((row) => [...row, ...Array(width - row.length).fill("")]);
  return { head: full[heads - 1] || Array(width).fill(""), body: full.slice(heads) };
}

function cellText(cell) {
  let text = cell.innerText;
  for (const button of cell.querySelectorAll("button.more")) text = text.replace(button.innerText, "");
  return text.replace(/[\u25b4\u25be\u2713\u2717]/g, "").replace(/\s+/g, " ").trim();
}

function markdownOf({ head, body }) {
  const line = (cells) => `| ${cells.map(markdownText).join(" | ")} |`;
  return [line(head), `|${" --- |".repeat(head.length)}`, ...body.map(line)].join("\n") + "\n";
}

// What can open a span, a link, a cell or a mention; the last two keep addresses from becoming links.
function markdownText(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replace(/[\\`*_{}[\]#|~$!@]|(?<=\w):(?=\/\/)|(?<=[Ww]{3})\./g, "\\$&");
}

const LATEX = new Map(Object.entries({
  "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
  "|": "\\textbar{}", '"': "\\textquotedbl{}", "`": "\\textasciigrave{}", "'": "\\textquotesingle{}", "-": "{-}", "[": "{[}", "]": "{]}",
  "\u2212": "\\ensuremath{-}", "\u00b1": "\\ensuremath{\\pm}", "\u00d7": "\\ensuremath{\\times}", "\u2264": "\\ensuremath{\\le}",
  "\u2265": "\\ensuremath{\\ge}", "\u221e": "\\ensuremath{\\infty}", "\u2013": "\\textendash{}", "\u2026": "\\ldots{}", "\u00a0": "~",
  ..."&%$#_{}".split("").reduce((own, character) => ({ ...own, [character]: `\\${character}` }), {}),
}));
const latexText = (text) => [...text].map((character) => LATEX.get(character) ?? character).join("");

function latexOf({ head, body }) {
  const line = (cells) => `${cells.map(latexText).join(" & ")} \\\\`;
  const number = (place) => body.length > 0 && body.every((row) => /^([\u2212\u2013\d<]|$)/.test(row[place]));
  const columns = head.map((_, place) => (place && number(place) ? "r" : "l")).join("");
  return ["% Needs \\usepackage{booktabs}; letters beyond Latin ones need lualatex or xelatex.", `\\begin{tabular}{${columns}}`, "\\toprule",
    line(head), "\\midrule", ...body.map(line), "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
}

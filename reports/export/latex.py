"""LaTeX: the report's tables as a fragment to include, for LuaLaTeX or XeLaTeX (names may be in any script)."""

from __future__ import annotations

from collections.abc import Mapping

from override_gap.reports.export.plain import PlainTable, heading, hypotheses, paragraphs, plain_tables

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "-": "{-}",
    "[": "{[}",
    "]": "{]}",
    "\u2212": r"\ensuremath{-}",
    "\u00b1": r"\ensuremath{\pm}",
    "\u2013": r"\textendash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def escaped(text: str) -> str:
    """Untrusted text as LaTeX that prints it unchanged: no command, no ligature, no optional argument."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex(summary: Mapping) -> str:
    """The report: verdict and every table, as a file for \\input."""
    blocks = [
        "% Needs \\usepackage{booktabs,longtable,array,textcomp}; compile with lualatex or xelatex.",
        f"\\section*{{Override-gap audit: {escaped(heading(summary))}}}",
        *map(escaped, paragraphs(summary)),
        *(latex_table(table) for table in (hypotheses(summary), *plain_tables(summary)) if table.rows),
    ]
    return "\n\n".join(blocks) + "\n"


def latex_table(table: PlainTable) -> str:
    """One table, which may break over pages; its columns are equally wide."""
    count = len(table.head)
    # \tabcolsep is added on both sides of each column.
    width = f"\\dimexpr\\linewidth/{count}-2\\tabcolsep\\relax"
    column = f">{{\\raggedright\\arraybackslash}}p{{{width}}}"
    note = f" {escaped(table.note)}" if table.note else ""
    lines = [
        "{\\footnotesize",
        f"\\begin{{longtable}}{{{column * count}}}",
        f"\\multicolumn{{{count}}}{{p{{\\dimexpr\\linewidth-2\\tabcolsep\\relax}}}}{{\\textbf{{{escaped(table.title)}.}}{note}}}\\\\",
        "\\toprule",
        " & ".join(map(escaped, table.head)) + r" \\",
        "\\midrule",
        "\\endhead",
        *(" & ".join(map(escaped, row)) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{longtable}}",
    ]
    return "\n".join(lines)

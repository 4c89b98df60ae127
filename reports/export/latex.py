"""LaTeX: the report's tables as a fragment to include, for LuaLaTeX or XeLaTeX (names may be in any script)."""

from __future__ import annotations

from collections.abc import Mapping

from override_gap.reports.export.plain import Plain, heading, hypotheses, paragraphs, plain_tables

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
    """Someone else's text as LaTeX that sets it as it stands: no command, no ligature, no optional argument."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex(summary: Mapping) -> str:
    """The report: verdict and every table, to be input into a document."""
    parts = [
        "% Needs \\usepackage{booktabs,longtable,array,textcomp}; compile with lualatex or xelatex.",
        f"\\section*{{Override-gap audit: {escaped(heading(summary))}}}",
        *map(escaped, paragraphs(summary)),
        *(grid(table) for table in (hypotheses(summary), *plain_tables(summary)) if table.rows),
    ]
    return "\n\n".join(parts) + "\n"


def grid(table: Plain) -> str:
    """One table, broken over pages where it is long; columns share the width of the text."""
    count = len(table.head)
    # The first column holds names; \tabcolsep stands on both sides of each.
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

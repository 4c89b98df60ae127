"""LaTeX: the report's tables as a fragment to include, for LuaLaTeX or XeLaTeX (names may be in any script)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from override_gap.reports.export.column_widths import GAP, JOINT, Fitted, fitted, joined_intervals, pieces
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


_COLUMN = r">{\raggedright\arraybackslash}p{.%04d\linewidth}"
"""A column of so many ten-thousandths of the line; a share is cut there, so that no sum is rounded up beyond the line."""


_TOGETHER = r"\par\penalty-100\ifdim\dimexpr\pagegoal-\pagetotal\relax<10\baselineskip\vfil\break\fi"
"""The page ends here unless ten lines more fit on it: a title does not stand alone at its foot."""


def escaped(text: str) -> str:
    """Untrusted text as LaTeX that prints it unchanged: no command, no ligature, no optional argument."""
    return "".join(_SPECIAL.get(character, character) for character in text)


BREAK = r"\allowbreak{}"
"""Where a line may end within a long word."""


def breakable(text: str) -> str:
    """As `escaped`, with places within long words at which a line may end, so that nothing stands out of its column."""
    words = (BREAK.join(map(escaped, pieces(word))) for word in text.split(" "))
    return " ".join(words).replace(JOINT, "~")


def latex(summary: Mapping) -> str:
    """The report: verdict and every table, as a file for \\input."""
    blocks = [
        "% Needs \\usepackage{booktabs,longtable,array,textcomp}; compile with lualatex or xelatex.",
        f"{{\\raggedright\\section*{{Override-gap audit: {breakable(heading(summary))}}}}}",
        *(f"{{\\sloppy {breakable(text)}\\par}}" for text in paragraphs(summary)),
        *(latex_table(table) for table in (hypotheses(summary), *plain_tables(summary)) if table.rows),
    ]
    return "\n\n".join(blocks) + "\n"


def latex_table(table: PlainTable) -> str:
    """One table, which may break over pages, in one or more parts: each column is as wide as its content, within the line."""
    parts = fitted(table.head, table.rows)
    many = len(parts) > 1
    note = f" {breakable(table.note)}" if table.note else ""
    lines = []
    for number, part in enumerate(parts, 1):
        title = breakable(f"{table.title}, part {number} of {len(parts)}" if many else table.title)
        below = note if number == 1 else ""
        lines += [
            _TOGETHER,
            f"{{\\medskip{_type(8)}\\sloppy\\noindent\\textbf{{{title}.}}{below}\\par\\nopagebreak",
            f"{_type(part.size)}\\setlength{{\\tabcolsep}}{{{GAP:g}pt}}\\setlength{{\\LTleft}}{{0pt}}\\setlength{{\\LTpre}}{{3pt}}",
            *_longtable(part, table),
            "",
        ]
    return "\n".join(lines[:-1])


def _type(points: int) -> str:
    """The command for type of so many points, whatever the document's own size is: the widths are made for it."""
    return f"\\fontsize{{{points}}}{{{points * 1.18:.1f}}}\\selectfont"


def _longtable(part: Fitted, table: PlainTable) -> list[str]:
    """Some columns of a table."""
    columns = "".join(_COLUMN % math.floor(1e4 * share) for share in part.shares)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(breakable(joined_intervals(cells[n])) for n in part.columns) + r" \\"

    return [
        f"\\begin{{longtable}}{{{columns}}}",
        "\\toprule",
        line(table.head),
        "\\midrule",
        "\\endhead",
        *map(line, table.rows),
        "\\bottomrule",
        "\\end{longtable}}",
    ]

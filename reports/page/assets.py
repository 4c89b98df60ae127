"""Scripts and style sheets of the page, and the Content-Security-Policy that allows these alone, by their hashes."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path

import vl_convert
from markupsafe import Markup

from override_gap.reports.text import script_json

TEMPLATES = Path(__file__).parent.parent / "templates"
PARTS = ("parts", "data", "plots", "table", "detail")
"""In this order, `explorer-PART.js` and then `explorer.js` share one function's scope."""


@functools.cache
def vega() -> Markup:
    """Vega, Vega-Lite and vega-embed (which brings the expression interpreter) as one script; needs no network."""
    return _as_markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def explorer_script() -> Markup:
    """The explorer's files as one script that defines no global name."""
    files = [TEMPLATES / f"explorer-{part}.js" for part in PARTS] + [TEMPLATES / "explorer.js"]
    body = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return _as_markup(f'\n"use strict";\n(() => {{\n{body}}})();\n')


def plot_specs() -> Markup:
    """The Vega-Lite specifications of the explorer's plots, as JSON for a script element."""
    return script_json(json.loads((TEMPLATES / "plots.json").read_text(encoding="utf-8")))


def style(*names: str) -> Markup:
    """These style sheets joined into one."""
    return Markup("".join((TEMPLATES / f"{name}.css").read_text(encoding="utf-8") for name in names))


def policy(scripts: tuple[str, ...], sheet: str) -> str:
    """A Content-Security-Policy that loads nothing and runs these scripts alone.

    Style attributes have to be allowed: the figures' SVG carries its colours in them.
    """
    rules = [
        "default-src 'none'",
        f"style-src-elem {_hash(sheet)}",
        "style-src-attr 'unsafe-inline'",
        "img-src data:",
        *([f"script-src {' '.join(map(_hash, scripts))}"] if scripts else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _as_markup(script: str) -> Markup:
    """The script as markup. Raises RuntimeError where its text would end the script element early."""
    for ending in ("</script", "<!--"):
        if ending in script.lower():
            raise RuntimeError(
                f"a script of the page contains {ending}, which would end its script element; split that string"
            )
    return Markup(script)

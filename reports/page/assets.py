"""Scripts and style sheets of the page, and the Content-Security-Policy that allows these alone, by their hashes."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
from pathlib import Path

from markupsafe import Markup

from override_gap.margins.whole_files import make_folder, write_text
from override_gap.probes.environment import home
from override_gap.reports.text import script_json

TEMPLATES = Path(__file__).parent.parent / "templates"
COPYING = ("explorer-parts", "page-anchors", "page-print", "page-tables", "page-copy")
"""What every page needs: links into closed folds open them, print opens all, figures and tables have buttons that copy them."""
EXPLORER = tuple(f"explorer-{part}" for part in ("data", "state", "plots", "table", "export", "detail", "controls"))
"""In this order, these and then `explorer.js` share the scope of one function with what every page needs."""


VEGA_SHA256 = "373b1f84072b31010f15ceb787be6b415c53936411aae267c8c2b2b6ccde46e7"
"""Of the plotting script that vl-convert 1.9.0 makes; a stored script with another digest is not used."""


@functools.cache
def vega() -> Markup:
    """Vega, Vega-Lite and vega-embed (which brings the expression interpreter) as one script; needs no network.

    Making it takes more than a second of a page's six, so it is kept in the user's cache, and used from there where its
    digest is VEGA_SHA256. Where the cache cannot be written or vl-convert makes another script, it is made for every page.
    """
    stored = home() / "vega.js"
    try:
        script = stored.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        script = ""
    if _is_vega(script):
        return _as_markup(script)
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if _is_vega(script):
        with contextlib.suppress(OSError):  # a page does not need the cache
            make_folder(stored.parent)
            write_text(stored, script)
    return _as_markup(script)


def _is_vega(script: str) -> bool:
    return hashlib.sha256(script.encode()).hexdigest() == VEGA_SHA256


def explorer_script() -> Markup:
    """What every page needs and the explorer as one script that defines no global name."""
    return _joined((*COPYING, *EXPLORER, "explorer"))


def copy_script() -> Markup:
    """What every page needs, of one without an explorer; its buttons are drawn by the style sheet `copy`."""
    return _joined(COPYING)


def _joined(names: tuple[str, ...]) -> Markup:
    body = "\n".join((TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in names)
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

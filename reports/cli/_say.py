"""The one place through which commands speak: nobody's text can move the cursor, change colours or look like a line of ours."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from override_gap.margins.text import escape_control_characters, escape_json, one_line

LONGEST = 4000
"""Characters of a line on a terminal; a name of somebody else's may be longer, and what follows it is to be seen too."""
#: Characters without width: names that differ in them alone look the same. The two joiners stay between letters that need them.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2064\u3164\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def say(*lines: object, error: bool = False) -> None:
    """Print lines, each made one line, on stdout, or on stderr."""
    print("\n".join(_seen(one_line(line)) for line in lines), file=sys.stderr if error else sys.stdout, flush=error)


def _seen(line: str) -> str:
    """A line with characters of no width written out, and cut in the middle where it is longer than LONGEST."""
    line = _UNSEEN.sub(lambda match: f"[U+{ord(match[0]):04X}]", line)
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def say_text(text: str, *, end: str = "\n", styled: bool = False) -> None:
    """Print a text of several lines on stdout; other people's texts in it were made one line each when it was put together.

    `styled`: bold type, as this module's BOLD and PLAIN set it, is kept.
    """
    text = "\n".join(map(_seen, text.split("\n")))
    parts = [text] if not styled else text.split(BOLD)
    print(BOLD.join(PLAIN.join(map(escape_control_characters, part.split(PLAIN))) for part in parts), end=end)


def say_json(content: Any) -> None:
    """Print JSON on stdout, in one line."""
    print(escape_json(json.dumps(content, ensure_ascii=False)))


def say_lines(records: str) -> None:
    """Print JSON Lines on stdout as they are, with invisible characters as escapes of JSON."""
    sys.stdout.write(escape_json(records))


def teller(quiet: bool = False) -> Callable[[object], None]:
    """What tells how the work goes, on stderr; it tells nothing where the user wants to hear nothing."""
    return (lambda _: None) if quiet else partial(say, error=True)

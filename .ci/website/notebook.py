"""A notebook as a page of Markdown, with the results that are stored in it: nothing is run."""

from __future__ import annotations

import base64
import json
from pathlib import Path


def page(notebook: Path, images: Path) -> str:
    """The notebook's cells in order; its pictures are written into the folder `images` beside the page."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    blocks: list[str] = []
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(f"```python\n{source}\n```")
        blocks += [_output(output, images, f"{notebook.stem}-{number}.png") for output in cell["outputs"]]
    return "\n\n".join(blocks) + "\n"


def _output(output: dict, images: Path, name: str) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        images.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(base64.b64decode("".join(data["image/png"])))
        return f"![What the cell above draws]({images.name}/{name})"
    if "text/html" in data:
        lines = "".join(data["text/html"]).splitlines()
        return '<div class="result">\n' + "\n".join(line for line in lines if line.strip()) + "\n</div>"
    return "```text\n" + "".join(data["text/plain"]).rstrip("\n") + "\n```"

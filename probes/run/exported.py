"""Adapters of a plan whose method runs in its own environment: exported once, before anything is measured."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from override_gap.margins.conditions import reword
from override_gap.margins.items.documents_file import document_lines
from override_gap.margins.items.item import Document, Item
from override_gap.probes.errors import AdapterError
from override_gap.probes.plan import METHODS_TEMPLATE, Plan, PlanError
from override_gap.probes.run.loop import Progress
from override_gap.probes.run.resolve import ResolvedPlan
from override_gap.probes.sources.compact import read_compact
from override_gap.probes.sources.own_environment import Checkpoint, export, needs_python
from override_gap.probes.store.folder import FOLDER_OF_ADAPTERS, Store
from override_gap.probes.store.remote import store_at

FOR_A_CHECK = 8
"""Documents that are exported where a handshake is all that is asked for: it takes the first two that can be read."""


def exported(
    resolved: ResolvedPlan, python: Path | None, out: Path | str, progress: Progress = lambda *_: None
) -> Path | None:
    """The compact file of a plan's adapters in the run folder `out`, made there unless it is there; None where none is needed.

    Needed where the plan names a method's checkpoint; `python` is then the interpreter of its environment. Raises AdapterError.
    """
    checkpoint = _checkpoint(resolved.plan.adapters, python)
    if checkpoint is None or python is None:
        return None
    store = store_at(out)
    if not isinstance(store, Store):
        raise AdapterError(
            f"--python needs a run folder on this machine, got {store}; write a file first "
            f"(`override-gap adapters export --adapters {resolved.plan.adapters} --python {python} --out FILE`)"
        )
    with store.locked():
        return export(checkpoint, python, needed_lines(resolved), store.path / FOLDER_OF_ADAPTERS, progress)


def exported_into(
    plan: Plan, items: Sequence[Item], python: Path | None, folder: Path, progress: Progress = lambda *_: None
) -> Path | None:
    """As `exported`, of the items' documents as they stand, into any folder."""
    checkpoint = _checkpoint(plan.adapters, python)
    if checkpoint is None or python is None:
        return None
    return export(checkpoint, python, document_lines(items), folder, progress)


def _checkpoint(adapters: str, python: Path | None) -> Checkpoint | None:
    checkpoint = Checkpoint.parse(adapters)
    if checkpoint is not None and python is None:
        raise needs_python(checkpoint)
    if checkpoint is None and python is not None:
        raise AdapterError(f"--python runs a method's own checkpoint (doc-to-lora:CHECKPOINT), which {adapters} is not")
    return checkpoint


def needed_lines(resolved: ResolvedPlan) -> list[str]:
    """The documents that a plan's conditions encode, as lines of a documents file: those of the items, and their rewordings."""
    lines = document_lines(resolved.items.items)
    wordings = dict.fromkeys(wording for condition in resolved.conditions for wording in condition.wordings)
    texts = {document.text: None for document in resolved.items.documents if document.text.strip()}
    for text in dict.fromkeys(reword(wording, text) for wording in wordings for text in texts):
        if text not in texts:
            row = {"key": Document(text).key, "ids": [], "points": [], "document": text, "questions": []}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return lines


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for what a method writes where there is no run folder. After an AdapterError its logs stay, which it names."""
    folder, keep = Path(mkdtemp(prefix=f"override-gap-{os.getpid()}-")), False
    try:
        yield folder
    except AdapterError:
        keep = any(folder.glob("*.log"))
        raise
    finally:
        for file in folder.iterdir():
            if not (keep and file.suffix == ".log"):
                file.unlink()
        if not keep:
            folder.rmdir()


def first_documents(items: Sequence[Item]) -> list[Item]:
    """The items about the first FOR_A_CHECK documents."""
    texts = list(dict.fromkeys(item.document for item in items if item.document.strip()))[:FOR_A_CHECK]
    return [item for item in items if item.document in texts]


def in_methods_template(resolved: ResolvedPlan, file: Path | None) -> ResolvedPlan:
    """A plan with `chat_template = "method"` asked through the template that is stored with its adapters; others unchanged.

    Raises PlanError where the adapters hold none.
    """
    plan = resolved.plan
    if plan.chat_template != METHODS_TEMPLATE:
        return resolved
    kind, _, rest = plan.adapters.partition(":")
    if file is None and kind == "compact":
        file = Path(rest)
    stored = (read_compact(file).index.get("settings") or {}).get("chat_template") if file is not None else None
    if not isinstance(stored, str) or not stored.strip():
        raise PlanError(
            f"chat_template = {METHODS_TEMPLATE!r} asks through the template that the method stored with its adapters, and "
            f"{plan.adapters} holds none; give --chat-template FILE"
        )
    return replace(resolved, chat=replace(resolved.chat, template=stored, template_name=None))

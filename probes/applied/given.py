"""The adapters that a user gives to be applied, as one per row or one for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from override_gap.margins.adapter import Adapter, AdapterSource
from override_gap.probes.applied.known import Documents, documents_in
from override_gap.probes.applied.peft_model import carried_adapter, is_peft
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.compact import read_compact
from override_gap.probes.sources.custom import encode_updates
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.sources.peft_folder import PeftFolder, read_adapter
from override_gap.probes.subject.live_model import LiveModel


def adapters_of(model: Any, live: LiveModel, adapters: Any, documents: Documents | None) -> tuple[Adapter, ...]:
    """The adapters given: objects, those of a folder, file or source for the documents, or what a PeftModel carries.

    Raises AdapterError where documents are missing, and for what is no update of the weights.
    """
    if adapters is None:
        if not is_peft(model):
            raise AdapterError(
                "no adapters given; without any, the model has to be a PeftModel with one active adapter"
            )
        return (carried_adapter(model, live),)
    if isinstance(adapters, Adapter):
        return (adapters,)
    if isinstance(adapters, str | Path):
        words = str(adapters)
        path = Path(words.removeprefix("compact:"))
        if (path / CONFIG).is_file():
            return (read_adapter(path, live),)
        if not path.exists():
            raise AdapterError(
                f"{path}: no such file or folder; need a PEFT folder, a folder of them, or a compact file"
            )
        compact = path.is_file() or words.startswith("compact:")
        adapters = read_compact(path) if compact else PeftFolder(live, path)
    if isinstance(adapters, AdapterSource):
        if documents is None:
            raise AdapterError(f"{adapters.name} has an adapter per document: give documents=, the text of each row's")
        rows = documents_in(documents)
        distinct = list({document.text: document for document in rows}.values())
        by_text = dict(zip([d.text for d in distinct], encode_updates(adapters, distinct), strict=True))
        return tuple(by_text[document.text] for document in rows)
    given = list(adapters) if isinstance(adapters, Sequence) else [adapters]
    wrong = next((a for a in given if not isinstance(a, Adapter)), None)
    if wrong is not None or not given:
        raise AdapterError(
            f"adapters: need an Adapter, one per row, a folder, a file or a source, got {type(wrong).__name__}"
            if given
            else "adapters: the list is empty"
        )
    return tuple(given)

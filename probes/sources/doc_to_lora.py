"""Doc-to-LoRA run in this process, where its package ctx_to_lora is installed: adapters straight from its checkpoint."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError, as_adapter_error
from override_gap.probes.sources import export_doc_to_lora
from override_gap.probes.sources.export_doc_to_lora import load_checkpoint, open_model, pack_documents
from override_gap.probes.sources.files import file_hash
from override_gap.probes.sources.stacked import StackedFile
from override_gap.probes.subject.model import Subject

SAFE_WAY = f"run {export_doc_to_lora.__file__} in the method's own environment and use doc-to-lora:FILE.safetensors"


@dataclass(frozen=True, eq=False)
class DocToLora:
    """Adapters from a checkpoint's hypernetwork `model`, equal to those in the file that the export script writes."""

    subject: Subject
    path: Path
    model: Any

    @property
    def name(self) -> str:
        """As reports print it."""
        return "doc-to-lora"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hash of the checkpoint."""
        return {"path": self.path.name, "sha256": file_hash(self.path)}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document: B rank-first, scale raw lora_alpha, the head bias as the shared part."""
        tensors, metadata = pack_documents(self.model, {document.key: document.text for document in documents})
        return StackedFile(self.subject, self.path, self.name).adapters(tensors, metadata, documents)


def open_doc_to_lora(path: Path, subject: Subject, *, allow_pickle: bool) -> DocToLora:
    """The source of a checkpoint. Raises AdapterError unless pickles are allowed and this one names only known classes."""
    if not path.is_file():
        raise AdapterError(f"{path}: no such file")
    if not allow_pickle:
        raise AdapterError(
            f"{path}: a Doc-to-LoRA checkpoint is a pickle, which can run code when it is opened; {SAFE_WAY}, or add "
            "--allow-pickle to open it here, restricted to the classes that such a checkpoint needs"
        )
    if importlib.util.find_spec("ctx_to_lora") is None:
        raise AdapterError(f"{path}: the package ctx_to_lora is not installed here; {SAFE_WAY}")
    with as_adapter_error(f"doc-to-lora:{path}"):
        return DocToLora(subject, path, open_model(load_checkpoint(str(path))))

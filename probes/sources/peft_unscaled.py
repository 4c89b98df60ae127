"""PEFT folders whose method adds B A as it is: the factors are PEFT's, the scale that PEFT would apply is not (DyPRAG)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from override_gap.margins.adapter import Adapter, AnyAdapter, traits_of
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_folder import PeftFolder


@dataclass(frozen=True, eq=False)
class Unscaled:
    """The adapters of a PEFT folder, or of a folder of them, at scale 1: the weight becomes W + B A.

    DyPRAG makes factors under PEFT's key names and injects their product; the lora_alpha and r of its configuration are
    those of the LoRAs it was trained on, and nothing at inference reads them.
    """

    folder: PeftFolder

    packages = PeftFolder.packages

    @property
    def name(self) -> str:
        """As reports print it."""
        return self.folder.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the folder, and the scale."""
        return {**self.folder.settings, "scale": 1.0}

    @property
    def base_fingerprint(self) -> str | None:
        """The model that the adapters are for, where the folder was exported by this toolkit."""
        return self.folder.base_fingerprint

    @property
    def scope(self) -> str:
        """`document`, or `nothing` where one folder serves all."""
        return self.folder.scope

    @property
    def notes_on(self) -> Callable[[Sequence[Document]], Sequence[str]] | None:
        """What the folder says of documents."""
        return traits_of(self.folder).notes_on

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document, each update at scale 1. Raises AdapterError for anything but plain factors."""
        return [self._unscaled(adapter) for adapter in self.folder.encode(documents)]

    def _unscaled(self, adapter: AnyAdapter) -> Adapter:
        other = "trained positions"
        if isinstance(adapter, Adapter):
            other = next((path for path, update in adapter.parts() if not isinstance(update, LowRank)), "")
            if not other:
                updates = {p: replace(u, scale=1.0) for p, u in adapter.updates.items() if isinstance(u, LowRank)}
                return replace(adapter, updates=updates)
        raise AdapterError(
            f"unscaled:{self.folder.path}: need plain LoRA factors alone, and {adapter.name} has {other}; give the folder "
            "without `unscaled:` where PEFT's own scale holds"
        )

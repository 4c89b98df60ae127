"""The source `fitted`: a LoRA fitted to each document by Adam, many documents at once; the strong reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import Factors, Stack
from override_gap.probes.errors import AdapterError, DocumentError
from override_gap.probes.sources.document_tokens import document_tokens
from override_gap.probes.sources.merged import merged_logits_of
from override_gap.probes.subject.devices import runs_on
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.tokens import pad


@dataclass(frozen=True, eq=False)
class FittedAdapters:
    """Fits factors of rank `rank` on every linear map named in `modules` to predict the document's own tokens.

    B starts at 0 and A at random, drawn from the document's content and the seed, so an adapter does not depend on
    which documents are fitted beside it. Loss: mean next-token cross-entropy of the document, nats.
    """

    subject: Subject
    steps: int = 6
    lr: float = 3e-3
    rank: int = 4
    modules: tuple[str, ...] = ("down_proj", "mlp.c_proj")
    batch: int = 32
    seed: int = 0

    @property
    def name(self) -> str:
        """As reports print it."""
        return "fitted"

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the adapters depend on; how many are fitted together does not matter."""
        settings = {k: v for k, v in fields_of(self).items() if k not in ("subject", "batch")}
        return {**settings, "modules": list(self.modules)}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """Fit one adapter per document. Raises AdapterError where no module is named or a document is too short."""
        # of a vision-language model the language model's alone
        own = {module for block in self.subject.blocks for module in block.modules()}
        named = tuple("." + m for m in self.modules)
        paths = [p for p, site in self.subject.sites.items() if p.endswith(named) and site.module in own]
        if not paths:
            raise AdapterError(f"fitted: the model has no module named {' or '.join(self.modules)}; set modules=")
        fitted: list[Adapter] = []
        for first in range(0, len(documents), self.batch):
            fitted += self._fit_together(documents[first : first + self.batch], paths)
        return fitted

    @property
    def native_logits(self) -> Callable[[Document, str], Float[Tensor, " vocab"]] | None:
        """The logits with the fitted factors multiplied out and added to the weights; None where a map stores no plain weight."""
        return merged_logits_of(self.subject, self.encode)

    def _fit_together(self, documents: Sequence[Document], paths: list[str]) -> list[Adapter]:
        """One adapter per document; one document after the other where a map sees some of a batch's tokens only."""
        try:
            return self._fit(documents, paths)
        except AdapterError:
            if len(documents) == 1 or "selection" not in self.subject.rows.of(paths).values():
                raise
        return [adapter for document in documents for adapter in self._fit([document], paths)]

    def _fit(self, documents: Sequence[Document], paths: list[str]) -> list[Adapter]:
        subject = self.subject
        rows = document_tokens(subject, documents, self.name)
        short = next((d for d, row in zip(documents, rows, strict=True) if len(row) < 2), None)
        if short is not None:
            raise DocumentError(f"fitted: document {short.text[:40]!r} has fewer than two tokens; nothing to predict")
        ids, mask = (t.to(subject.device) for t in pad(rows))
        factors = {path: self._initial_factors(documents, path) for path in paths}
        leaves = [tensor for f in factors.values() for tensor in (f.A, f.B)]
        adam = torch.optim.Adam(leaves, lr=self.lr)
        gains = torch.ones(len(documents), subject.n_layers)
        with torch.enable_grad(), attached(subject, Stack(factors, len(documents)), gains):
            for _ in range(self.steps):
                adam.zero_grad()
                _loss(subject, ids, mask).backward()
                adam.step()
        return [
            Adapter(
                name=f"fitted:{document.key}",
                updates={p: LowRank(f.A[n].detach().clone(), f.B[n].detach().clone()) for p, f in factors.items()},
            )
            for n, document in enumerate(documents)
        ]

    def _initial_factors(self, documents: Sequence[Document], path: str) -> Factors:
        site = self.subject.sites[path]
        draws = []
        for document in documents:
            seed = (int(document.key, 16) ^ self.seed) % 2**63
            generator = torch.Generator().manual_seed(seed)
            bound = site.d_in**-0.5
            draws.append(torch.rand(self.rank, site.d_in, generator=generator) * 2 * bound - bound)
        device = runs_on(site.module)
        A = torch.stack(draws).to(device).requires_grad_()
        B = torch.zeros(len(documents), site.d_out, self.rank, device=device).requires_grad_()
        return Factors(A, B)


def _loss(subject: Subject, ids: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]) -> Float[Tensor, ""]:
    """Sum over documents of each one's mean cross-entropy, so that no document's gradient depends on another's length."""
    hidden = subject.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logprobs = subject.logits(hidden[:, :-1]).log_softmax(-1)
    nats = -logprobs.gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
    return (nats.sum(1) / mask[:, 1:].sum(1)).sum()


def fields_of(settings: Any) -> dict[str, Any]:
    """A dataclass's fields by name, as they are."""
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}

"""The source `rank-one`: each document as a closed-form edit of one map, after ROME (Meng et al. 2022, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.items.subjects import mention_end
from override_gap.margins.text import plural
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterError, DocumentError
from override_gap.probes.sources.document_tokens import document_tokens
from override_gap.probes.sources.fitted import fields_of
from override_gap.probes.sources.merged import merged_logits_of
from override_gap.probes.sources.second_moment import own_text, second_moment
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.sites import Site
from override_gap.probes.subject.tokens import pad

POSITIONS = ("auto", "subject", "surprise")


def rome_update(
    key: Float[Tensor, " d_in"], change: Float[Tensor, " d_out"], moment: Float[Tensor, "d_in d_in"]
) -> LowRank:
    """The update D with D k = change that changes other keys' outputs least: min tr(D C D^T), C their second moment.

    D = change (C^-1 k)^T / (k^T C^-1 k). In float64, since C is ill-conditioned. Raises ValueError for a key of zero.
    """
    direction = torch.linalg.solve(moment.double(), key.double())
    overlap = direction @ key.double()
    if not overlap > 0:
        raise ValueError(
            f"the key is zero or the second moment is not positive definite: k^T C^-1 k = {overlap.item():.3g}"
        )
    return LowRank((direction / overlap)[None].float(), change[:, None].float())


@dataclass(frozen=True, eq=False)
class RankOne:
    """Edits one weight matrix of one layer so that W' k = v, by the rank-one update that is smallest in the norm
    weighted by C.

    k is the map's input at one position of the document. v is its output there, changed by `steps` of Adam so that the rest
    of the document becomes likely (mean next-token cross-entropy, nats); `lr` is in units of that output's root mean square,
    and the change is at most `reach` times its norm. C is the second moment of the map's inputs on `samples` rows of `length`
    tokens sampled from the model, plus `ridge` times the median of its diagonal.

    `layer` -1: layer number n_layers // 3. `position`: `subject`, the last token of the first mention of the items' subject;
    `surprise`, the token before the one that the base expects least; `auto`, `subject` where the text has one, else
    `surprise`. Unlike ROME there are no random prefixes and no essence prompt.
    """

    subject: Subject
    layer: int = -1
    position: str = "auto"
    steps: int = 20
    lr: float = 0.5
    reach: float = 4.0
    ridge: float = 0.1
    samples: int = 32
    length: int = 64
    modules: tuple[str, ...] = ("down_proj", "mlp.c_proj")
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise AdapterError(f"rank-one: position must be one of {', '.join(POSITIONS)}, got {self.position!r}")
        if not -1 <= self.layer < self.subject.n_layers:
            raise AdapterError(f"rank-one: layer must be 0 to {self.subject.n_layers - 1}, or -1, got {self.layer}")

    @property
    def name(self) -> str:
        """As reports print it."""
        return "rank-one"

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the adapters depend on; how many are made together does not matter."""
        settings = {k: v for k, v in fields_of(self).items() if k not in ("subject", "batch")}
        return {**settings, "layer": self.edited_layer, "modules": list(self.modules)}

    @property
    def base_fingerprint(self) -> str:
        """The subject: the edit is made for its weights."""
        return self.subject.fingerprint

    @property
    def edited_layer(self) -> int:
        """The number of the edited layer."""
        return self.subject.n_layers // 3 if self.layer == -1 else self.layer

    @cached_property
    def site(self) -> Site:
        """The edited map. Raises AdapterError unless the layer has exactly one that writes into the residual stream."""
        ends = tuple("." + module for module in self.modules)
        block = set(self.subject.blocks[self.edited_layer].modules())
        sites = [s for p, s in self.subject.sites.items() if s.module in block and p.endswith(ends)]
        if len(sites) != 1:
            raise AdapterError(
                f"rank-one: need one map named {' or '.join(self.modules)} in layer {self.edited_layer}, found {len(sites)}"
                "; set modules= for other names; mixtures of experts are not supported"
            )
        if sites[0].d_out != self.subject.d_model:
            raise AdapterError(
                f"rank-one: {sites[0].path} does not write into the residual stream; set modules= to the map that ends the "
                "feed-forward block"
            )
        return sites[0]

    @cached_property
    def moment(self) -> Float[Tensor, "d_in d_in"]:
        """C with its ridge, computed once."""
        moment = second_moment(self.subject, self.site, own_text(self.subject, self.samples, self.length, self.seed))
        diagonal = moment.diagonal()
        return moment + self.ridge * diagonal[diagonal > 0].median() * torch.eye(len(moment), dtype=moment.dtype)

    def notes_on(self, documents: Sequence[Document]) -> list[str]:
        """With position=auto: how many documents have no subject that they name, so that surprise decides."""
        without = [d for d in documents if mention_end(d.text, d.subjects) is None]
        if self.position != "auto" or not without:
            return []
        unnamed = sum(not d.subjects for d in without)
        reason = (
            "no item of it has a meta.subject"
            if not without[0].subjects
            else (f"it does not hold its meta.subject {without[0].subjects[0]!r}")
        )
        return [
            f"rank-one: position=auto takes the position of surprise in {len(without)} of {plural(len(documents), 'document')} "
            f"({unnamed} without a meta.subject); the first, {without[0].text[:40]!r}: {reason}"
        ]

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One edit per document. Raises AdapterError where the key has no position."""
        adapters: list[Adapter] = []
        for first in range(0, len(documents), self.batch):
            batch = documents[first : first + self.batch]
            keys, changes = self.keys_and_changes(batch)
            for document, key, change in zip(batch, keys, changes, strict=True):
                try:
                    update = rome_update(key, change, self.moment)
                except ValueError as fault:
                    raise AdapterError(f"rank-one: document {document.text[:40]!r}: {fault}") from fault
                adapters.append(Adapter(f"rank-one:{document.key}", {self.site.path: update}))
        return adapters

    @property
    def native_logits(self) -> Callable[[Document, str], Float[Tensor, " vocab"]] | None:
        """The logits with the edit added to the weight itself; None where the map stores no plain weight."""
        return merged_logits_of(self.subject, self.encode)

    def keys_and_changes(
        self, documents: Sequence[Document]
    ) -> tuple[Float[Tensor, "batch d_in"], Float[Tensor, "batch d_out"]]:
        """k of each document, and v - W k, the change of the map's output there."""
        ids, mask = (tensor.to(self.subject.device) for tensor in pad(self._rows(documents)))
        captured: list[Tensor] = []
        with torch.no_grad(), self._hooked(ids.shape, lambda x, out: captured.extend((x, out))):
            nats = _nats(self.subject, ids, mask)
        at = torch.tensor([self._key_position(d, nats[n]) for n, d in enumerate(documents)], device=ids.device)
        rows = torch.arange(len(at), device=ids.device)
        keys, before = captured[0][rows, at].float(), captured[1][rows, at].float()
        later = mask[:, 1:] * (torch.arange(ids.shape[1] - 1, device=ids.device) >= at[:, None])
        unit = before.square().mean(1, keepdim=True).sqrt()
        move = torch.zeros_like(before, requires_grad=True)
        longest = self.reach * before.shape[1] ** 0.5
        adam = torch.optim.Adam([move], lr=self.lr)

        def moved(_x: Tensor, out: Tensor) -> Tensor:
            return out.index_put((rows, at), (out[rows, at].float() + unit * move).to(out.dtype))

        with torch.enable_grad(), self._hooked(ids.shape, moved):
            for _ in range(self.steps):
                adam.zero_grad()
                # a sum over documents, so that no document's change depends on another
                ((_nats(self.subject, ids, mask) * later).sum(1) / later.sum(1)).sum().backward()
                adam.step()
                with torch.no_grad():
                    move.mul_((longest / move.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0))
        return keys.cpu(), (unit * move).detach().cpu()

    def _rows(self, documents: Sequence[Document]) -> list[list[int]]:
        rows = document_tokens(self.subject, documents, self.name)
        short = next((d for d, row in zip(documents, rows, strict=True) if len(row) < 3), None)
        if short is not None:
            raise DocumentError(
                f"rank-one: document {short.text[:40]!r} has fewer than three tokens; need at least three"
            )
        return rows

    def _key_position(self, document: Document, nats: Float[Tensor, " pos"]) -> int:
        """The key's position. `surprise` never takes the first: its key is nearly the same for every text."""
        text, end = document.text, mention_end(document.text, document.subjects)
        if end is not None and self.position != "surprise":
            whole, head = self.subject.tokenize(text), self.subject.tokenize(text[:end])
            same = next((n for n, (a, b) in enumerate(zip(whole, head, strict=False)) if a != b), len(head))
            return min(max(same - 1, 0), len(whole) - 2)
        if self.position == "subject":
            raise AdapterError(
                f"rank-one: document {text[:40]!r} does not mention its subject: none of its items has a meta.subject that is in "
                "the text; use position=surprise"
            )
        return int(nats[1 : len(self.subject.tokenize(text)) - 1].argmax()) + 1

    @contextmanager
    def _hooked(self, shape: torch.Size, act: Any) -> Iterator[None]:
        """Call `act` with the map's input and output as [batch, pos, width]; what it returns, unless None, replaces the output.

        Raises AdapterError where the map sees a batch so that its rows cannot be told apart.
        """
        path = self.site.path
        if self.subject.rows.of([path])[path] != "rows":
            raise AdapterError(f"rank-one: {path} sees some of a batch's tokens only, or not row by row; set modules=")

        def hook(_module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor | None:
            x = args[0]
            changed = act(x.reshape(*shape, x.shape[-1]), out.reshape(*shape, out.shape[-1]))
            return None if changed is None else changed.reshape(out.shape)

        handle = self.site.module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _nats(
    subject: Subject, ids: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos-1"]:
    """-log p of each next token, nats."""
    hidden = subject.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return -subject.logits(hidden[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]

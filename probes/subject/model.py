"""Subject: a language model to audit, with the maps that adapters change and the parts that margins are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from override_gap.margins.attribution import FinalNorm
from override_gap.margins.items.item import Item
from override_gap.margins.margin import capped
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.bridge import BridgedModel
from override_gap.probes.subject.chat import chat_prompt
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.computing import model_facts
from override_gap.probes.subject.devices import devices_of
from override_gap.probes.subject.final_norm import final_norm
from override_gap.probes.subject.fingerprint import subject_fingerprint, weight_sums
from override_gap.probes.subject.parity import (
    disagreement,
    logit_rounding,
    model_logits,
    probe_tokens,
    require_finite,
)
from override_gap.probes.subject.row_layouts import RowLayouts
from override_gap.probes.subject.sites import Site, find_sites
from override_gap.probes.subject.stream_paths import StreamPaths
from override_gap.probes.subject.structure import decoder_of
from override_gap.probes.subject.tokens import prompt_ids, token_ids
from override_gap.probes.subject.weight_norms import WeightNorms
from override_gap.probes.timing import timed

VOCAB_CHUNK = 32_768
#: What configurations call the soft cap of the final logits (Gemma; RecurrentGemma; xLSTM).
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
NO_NORM = "the final norm is neither LayerNorm nor RMSNorm, so margins are not split over layers: no attribution, lens, direct"


@dataclass(frozen=True, eq=False)
class Subject:
    """One causal language model, and the TransformerBridge that says what its modules are.

    `sites` are its linear maps by path, which adapters update. `norm` is the final norm, None where it is neither LayerNorm
    nor RMSNorm. `logit_scale` multiplies the unembedding's output before the cap, as Cohere and Granite do. `reference` holds
    the model's logits for `probe` before anything was done to it, so that every run can be checked against it. `stream`
    tells what the residual stream gets of what is added to a module's output, `rows` how a module's input holds a batch,
    `weights` the norms of its weights.
    `chat` is how questions go through the chat template. `sums` are the `weight_sums` at the time of wrapping, `computing`
    the `model_facts`: what decides numbers beside the weights.
    """

    name: str
    bridged: BridgedModel
    model: Any
    tokenizer: Any
    fingerprint: str
    sites: Mapping[str, Site]
    norm: FinalNorm | None
    cap: float | None
    logit_scale: float
    probe: tuple[int, ...]
    reference: Float[Tensor, "pos vocab"]
    stream: StreamPaths
    rows: RowLayouts
    weights: WeightNorms
    chat: ChatSettings = field(default_factory=ChatSettings)
    sums: Mapping[str, int] = field(default_factory=dict)
    computing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.bridged.structure.d_model

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The model's own blocks: the residual stream is the first one's input and the output of each."""
        return self.bridged.structure.blocks

    @property
    def decoder(self) -> nn.Module:
        """The model without its unembedding: its output is the final normalised state."""
        return decoder_of(self.model)

    @property
    def device(self) -> torch.device:
        """The embedding's device, where inputs go."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The model's own dtype; margins are float32 whatever it is."""
        return self.unembedding.dtype

    @property
    def coarsest_dtype(self) -> torch.dtype:
        """The format of fewest digits among the unembedding's and the other weights': the final state is rounded to it."""
        return max((self.dtype, self.model.dtype), key=lambda dtype: torch.finfo(dtype).eps)

    @property
    def unembedding(self) -> Float[Tensor, "vocab d_model"]:
        """The unembedding's weight."""
        return self.model.get_output_embeddings().weight

    @property
    def unembedding_bias(self) -> Float[Tensor, " vocab"] | None:
        """The unembedding's bias; None where the model has none."""
        return getattr(self.model.get_output_embeddings(), "bias", None)

    @property
    def max_positions(self) -> int | None:
        """The most positions that the model takes; None where its configuration states no limit."""
        config = self.model.config.get_text_config()
        # MPT's configuration has a word of its own
        names = ("max_position_embeddings", "n_positions", "max_seq_len")
        return next((most for name in names if (most := getattr(config, name, None))), None)

    @property
    def unread(self) -> tuple[dict[str, str], ...]:
        """What of this model cannot be read under any adapter: rows of `probe` with their `reason`."""
        return () if self.norm is not None else ({"probe": "layers", "reason": NO_NORM},)

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids, with the BOS token that the tokenizer puts in front and without the EOS token that it puts behind."""
        return token_ids(self.tokenizer, text, special=special)

    def chat_prompt(self, question: str) -> str:
        """The question as the user's turn of a chat template, up to where the assistant's answer begins. Raises ItemError."""
        return chat_prompt(self.tokenizer, question, self.chat).text

    def prompt_ids(self, item: Item) -> list[int]:
        """The tokens after which an item is answered; margins are read after the same ones."""
        return prompt_ids(self.tokenizer, item, self.chat)

    def logits(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """All logits in float32 from the final normalised state, scale and cap applied.

        Weights of lower precision are converted one slice of the vocabulary at a time, so that there is never a float32
        copy of the whole unembedding.
        """
        with timed("model"):
            hidden, weight, bias = hidden.float(), self.unembedding, self.unembedding_bias
            if weight.dtype == torch.float32:
                raw = hidden @ weight.T
            else:
                raw = torch.cat([hidden @ chunk.float().T for chunk in weight.split(VOCAB_CHUNK)], dim=-1)
            if bias is not None:
                raw = raw + bias.float()
            return capped(raw * self.logit_scale, self.cap)

    def token_logits(
        self, hidden: Float[Tensor, "batch d_model"], tokens: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """One logit per row, as a float32 product with that token's unembedding row."""
        raw = (hidden.float() * self.unembedding[tokens].float()).sum(-1)
        if self.unembedding_bias is not None:
            raw = raw + self.unembedding_bias[tokens].float()
        return capped(raw * self.logit_scale, self.cap)

    def logits_of(
        self, hidden: Float[Tensor, "batch d_model"], tokens: Int[Tensor, " token"]
    ) -> Float[Tensor, "batch token"]:
        """The logits of some tokens in every row, as one float32 product with their unembedding rows."""
        tokens = tokens.to(self.unembedding.device)
        raw = hidden.float() @ self.unembedding[tokens].float().T
        if self.unembedding_bias is not None:
            raw = raw + self.unembedding_bias[tokens].float()
        return capped(raw * self.logit_scale, self.cap)

    def margin_direction(
        self, pre: Int[Tensor, " batch"], doc: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, " batch"]]:
        """The unembedding direction from y_doc to y_pre, and the bias's part of the margin; pre-cap, logit scale included."""
        rows = self.unembedding[pre].float() - self.unembedding[doc].float()
        bias = self.unembedding_bias
        constant = torch.zeros(len(pre), device=rows.device) if bias is None else bias[pre].float() - bias[doc].float()
        return rows * self.logit_scale, constant * self.logit_scale

    @torch.no_grad()
    def probe_logits(self) -> Float[Tensor, "pos vocab"]:
        """Our logits for the probe tokens, on the CPU."""
        ids = torch.tensor([self.probe], device=self.device)
        return self.logits(self.decoder(input_ids=ids, use_cache=False).last_hidden_state[0]).cpu()

    def parity(self) -> float:
        """Largest |difference| between our logits for the probe tokens and the unwrapped model's own, in nats."""
        return (self.probe_logits() - self.reference).abs().max().item()

    def parity_fault(self) -> str | None:
        """How these logits differ by more than the rounding of the model's number format; None where they do not."""
        return disagreement(self.probe_logits(), self.reference, self._rounding)

    def parity_tolerance(self) -> float:
        """The largest `parity` that is rounding: of the model's own number format, at logits of this size; nats."""
        return float(f"{self._rounding.max().item():.6g}")  # without the digits that float32 adds to 1e-3

    @property
    def _rounding(self) -> Float[Tensor, "pos vocab"]:
        scaled = self.logit_scale != 1.0
        return logit_rounding(self.reference, self.coarsest_dtype, scaled=scaled, is_capped=self.cap is not None)

    def how_changed(self, *, weights: bool = True) -> str | None:
        """How the model differs from when it was wrapped, in its probe logits or its weights; None where it does not."""
        if self.model.training:
            return f"{self.name} was put into training mode while it was measured"
        fault = self.parity_fault()
        if fault is not None:
            return f"{self.name} changed while it was measured: its logits differ from before {fault}"
        sums = weight_sums(self.model) if weights and self.sums else self.sums
        changed = [name for name in self.sums if sums.get(name) != self.sums[name]]
        return (
            f"{self.name} changed while it was measured: {changed[0]} has other values than before" if changed else None
        )

    def describe(self) -> dict[str, Any]:
        """The subject as a report describes it: name, fingerprint, sizes, dtype, device."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "layers": self.n_layers,
            "d_model": self.d_model,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": devices_of(self.model, self.device),
            "vocab": int(self.unembedding.shape[0]),
        }


def wrap(model: Any, tokenizer: Any, name: str) -> Subject:
    """Wrap a live Hugging Face causal model; from here on the Subject owns it.

    Raises SubjectError where the blocks of the architecture cannot be told, where the model's logits are not finite in its
    number format, or where they cannot be reproduced from its final state.
    """
    model = model.eval().requires_grad_(False)
    fingerprint, computing = subject_fingerprint(model, tokenizer), model_facts(model, tokenizer)
    device = model.get_input_embeddings().weight.device
    probe = probe_tokens(tokenizer, model)
    ids = torch.tensor([probe], device=device)
    reference = model_logits(model, ids)
    require_finite(reference, model.dtype, name)
    if "name_or_path" not in tokenizer.init_kwargs:
        tokenizer.init_kwargs["name_or_path"] = name
    try:
        bridged = BridgedModel.over(model, tokenizer, name, ids)
    except ValueError as fault:
        raise SubjectError(f"{name}: this architecture cannot be read: {str(fault)[:300]}") from fault
    model.eval().requires_grad_(False)
    config = model.config.get_text_config()
    sites = find_sites(model)
    subject = Subject(
        name=name,
        bridged=bridged,
        model=model,
        tokenizer=tokenizer,
        fingerprint=fingerprint,
        sites=sites,
        norm=final_norm(
            bridged.structure.final_norm,
            bridged.structure.d_model,
            device,
            model.get_output_embeddings().weight.dtype,
        ),
        cap=next((cap for name in CAPS if (cap := getattr(config, name, None)) is not None), None),
        logit_scale=_logit_scale(config),
        probe=probe,
        reference=reference,
        stream=StreamPaths(decoder_of(model), model, bridged.structure.blocks, bridged.structure.d_model),
        rows=RowLayouts(decoder_of(model), model),
        weights=WeightNorms(model, sites),
        sums=weight_sums(model),
        computing=computing,
    )
    fault = subject.parity_fault()
    if fault is not None:
        # the model's own forward pass again tells a head that is not known from a model that wrapping has changed
        changed = disagreement(model_logits(model, ids), reference, subject._rounding)
        raise SubjectError(
            f"{name}: wrapping changed the model's own logits {changed}; TransformerLens cannot wrap it unchanged"
            if changed is not None
            else f"{name}: logits read here differ from the model's own {fault}; its head does something that this toolkit "
            "does not support"
        )
    return subject


def _logit_scale(config: Any) -> float:
    if getattr(config, "logits_scaling", None):
        return 1.0 / float(config.logits_scaling)
    named = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None)  # Cohere; Falcon-H1
    return float(named or 1.0)

"""The hypernetwork: from a real model's activations on a document to a low-rank update of its upper down projections.

A reader combines the activations of several layers at each token. Latents, one per updated layer and rank, attend to it. Each
latent is mapped to a direction that is read (a row of A) and one that is written (a column of B); each direction is a sum of

- a pointer: the document's own vectors, averaged with the latent's attention over its tokens. For A these are the MLP
  activations of that layer, so that a question about the same entity excites the row; for B the embeddings of the tokens,
  since a model with tied embeddings predicts the token whose embedding is written;
- a direct part: from the latent through a bottleneck.

So a word that never occurred in training can still be pointed at, and the number of parameters stays small where d_ff is large.
Parameter names are the keys of the weights file, so they stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from transformers import LlamaForCausalLM

from override_gap.probes.organism.hypernetwork import Factors, PerceiverBlock
from override_gap.probes.smollm2.packing import pack, run_layers

EPSILON = 1e-6
# Initial sizes of the direct parts and of the correction of a pointed-at embedding. They are factors beside weights of
# ordinary size, since an optimiser whose steps have the same size for every weight would overwrite weights that are small.
DIRECT_A, DIRECT_B, TURN = 0.3, 0.05, 0.3
# SHARPNESS scales attention scores: without it, initial attention is almost uniform. The scale of what is written is one number
# per rank, WRITE_SCALE * exp(WRITE_SCALE_RATE * parameter): small optimiser steps move a plain factor too slowly.
SHARPNESS, WRITE_SCALE, WRITE_SCALE_RATE = 4.0, 0.05, 10.0


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the network; d_model and d_ff are the base's."""

    reads: tuple[int, ...]
    """Layers whose input is read."""
    writes: tuple[int, ...]
    """Layers whose down projection is updated."""
    d_model: int = 576
    d_ff: int = 1536
    rank: int = 4
    width: int = 384
    heads: int = 6
    blocks: int = 2
    inner_a: int = 64
    """Width of the bottleneck of A's direct part."""
    inner_b: int = 96
    """Width of the bottleneck of B's direct part."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The updated module of each layer in `writes`."""
        return tuple(f"model.layers.{layer}.mlp.down_proj" for layer in self.writes)


@dataclass(frozen=True)
class DocumentActivations:
    """The base's activations on some documents."""

    residual: Float[Tensor, "read doc pos d_model"]
    """Input of each layer that is read."""
    mlp: Float[Tensor, "write doc pos d_ff"]
    """Input of each updated down projection."""
    embeddings: Float[Tensor, "doc pos d_model"]
    """Zero behind a document's end."""
    mask: Bool[Tensor, "doc pos"]


class DocumentReader(nn.Module):
    """Latents of every layer and rank, after attending to the document."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        width, count = shape.width, len(shape.writes) * shape.rank
        self.enter = nn.Linear((len(shape.reads) + 2) * shape.d_model, width)
        self.context = nn.TransformerEncoderLayer(
            width, shape.heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.seen_norm = nn.LayerNorm(width)
        self.latents = nn.Parameter(torch.randn(count, width))
        self.blocks = nn.ModuleList(PerceiverBlock(width, shape.heads) for _ in range(shape.blocks))
        self.last_norm = nn.LayerNorm(width)

    def forward(
        self, activations: DocumentActivations
    ) -> tuple[Float[Tensor, "doc pos width"], Float[Tensor, "doc latent width"]]:
        """Features of the document's tokens, and the latents."""
        next_embeddings = pad(activations.embeddings[:, 1:], (0, 0, 0, 1))
        parts = [*activations.residual, activations.embeddings, next_embeddings]
        tokens = self.enter(torch.cat([rms_normalised(part) for part in parts], dim=-1))
        tokens = self.seen_norm(self.context(tokens, src_key_padding_mask=~activations.mask))
        visible = activations.mask[:, None, None, :]
        latents = self.latents.expand(len(tokens), -1, -1)
        for block in self.blocks:
            latents = block(latents, tokens, visible)
        return tokens, self.last_norm(latents)


class SmolLM2Network(nn.Module):
    """Document -> factors of every updated layer."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        layers, width = len(shape.writes), shape.width
        self.listener = DocumentReader(shape)
        self.point = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.offer = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.a_in = nn.Parameter(torch.randn(layers, width, shape.inner_a) * width**-0.5)
        self.a_out = nn.Parameter(torch.randn(layers, shape.inner_a, shape.d_ff) * shape.inner_a**-0.5)
        self.b_in = nn.Parameter(torch.randn(layers, width, shape.inner_b) * width**-0.5)
        self.b_out = nn.Parameter(torch.randn(layers, shape.inner_b, shape.d_model) * shape.inner_b**-0.5)
        self.turn_in = nn.Parameter(torch.randn(layers, shape.d_model, shape.inner_b) * shape.d_model**-0.5)
        self.turn_out = nn.Parameter(torch.randn(layers, shape.inner_b, shape.d_model) * shape.inner_b**-0.5)
        self.loud_a = nn.Parameter(torch.ones(layers, shape.rank))  # weight of A's pointer
        self.loud_b = nn.Parameter(torch.zeros(layers, shape.rank))  # log weight of B's pointer
        # Measured once on the base, then fixed: mean and spread of the MLP activations, their direction at a text's first
        # token (an attention sink, with activations so large that the least overlap with it breaks the model), and the norm
        # of the residual stream.
        self.sink = nn.Parameter(torch.zeros(layers, shape.d_ff), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(layers, shape.d_ff), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(layers, shape.d_ff), requires_grad=False)
        self.size = nn.Parameter(torch.ones(layers), requires_grad=False)

    def calibrate(
        self,
        mlp: Float[Tensor, "write token d_ff"],
        sink: Float[Tensor, "write d_ff"],
        residual_norm: Float[Tensor, " write"],
    ) -> None:
        """Set the fixed statistics from the base's MLP activations at many tokens and at first ones, and residual norms."""
        self.sink.data = normalize(sink, dim=-1)
        self.mean.data = mlp.mean(1)
        spread = mlp.std(1)
        self.spread.data = spread.clamp_min(0.3 * spread.median(dim=1, keepdim=True).values)
        self.size.data = residual_norm

    def attention(
        self,
        which: int,
        tokens: Float[Tensor, "doc pos width"],
        latents: Float[Tensor, "doc latent width"],
        mask: Bool[Tensor, "doc pos"],
    ) -> Float[Tensor, "doc write rank pos"]:
        """Attention of each latent over the document's tokens, of A's pointers (`which` 0) or of B's (1)."""
        scores = self.point[which](latents).float() @ self.offer[which](tokens).float().mT
        scores = scores * SHARPNESS * self.shape.width**-0.5
        weights = scores.masked_fill(~mask[:, None, :], -torch.inf).softmax(-1)
        return weights.unflatten(1, (-1, self.shape.rank))

    def forward(
        self, activations: DocumentActivations
    ) -> tuple[Float[Tensor, "write doc rank d_in"], Float[Tensor, "write doc rank d_out"]]:
        """A and the transpose of B for every updated layer; the update is B A at scale 1."""
        tokens, latents = self.listener(activations)
        mask = activations.mask.clone()
        mask[:, 0] &= activations.mask.sum(-1) == 1  # the sink is not pointed at, unless it is the only token
        rows = latents.unflatten(1, (-1, self.shape.rank))
        centred = (activations.mlp.float() - self.mean[:, None, None]) / self.spread[:, None, None]
        pointed = normalize(torch.einsum("dlrp,ldpi->ldri", self.attention(0, tokens, latents, mask), centred), dim=-1)
        # what the average token excites would be excited by every question
        average = normalize(self.mean / self.spread, dim=-1)
        pointed = pointed - torch.einsum("ldri,li->ldr", pointed, average)[..., None] * average[:, None, None]
        direct = torch.einsum("dlrw,lwn,lni->ldri", rows, self.a_in, self.a_out)
        direct = direct * DIRECT_A * self.shape.d_ff**-0.5
        a = (self.loud_a[:, None, :, None] * pointed + direct) / self.spread[:, None, None] * self.shape.d_ff**-0.5
        a = a - torch.einsum("ldri,li->ldr", a, self.sink)[..., None] * self.sink[:, None, None]
        embeddings = rms_normalised(activations.embeddings.float())
        pointed = torch.einsum("dlrp,dpo->ldro", self.attention(1, tokens, latents, mask), embeddings)
        pointed = pointed * self.shape.d_model**-0.5
        pointed = pointed + TURN * torch.einsum("ldro,lon,lnm->ldrm", pointed, self.turn_in, self.turn_out)
        direct = torch.einsum("dlrw,lwn,lno->ldro", rows, self.b_in, self.b_out)
        direct = direct * DIRECT_B * self.shape.d_model**-0.5
        scale = WRITE_SCALE * (WRITE_SCALE_RATE * self.loud_b).exp()
        b = (scale[:, None, :, None] * pointed + direct) * self.size[:, None, None, None]
        return a, b


def rms_normalised(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """Each vector scaled to unit root mean square."""
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt()


@torch.no_grad()
def document_activations(
    base: LlamaForCausalLM, shape: NetworkShape, documents: Sequence[Sequence[int]]
) -> DocumentActivations:
    """The base's activations on tokenised documents, from one forward pass."""
    texts = pack(documents)
    width = max(map(len, documents))
    residual: dict[int, Tensor] = {}
    mlp: dict[int, Tensor] = {}

    def record(activations: dict[int, Tensor], layer: int):
        def hook(_: Any, args: tuple[Tensor, ...]) -> None:
            activations[layer] = texts.unpack(args[0], width)

        return hook

    embedded = base.model.embed_tokens(texts.ids)
    with ExitStack() as undo:
        for layer in shape.reads:
            undo.callback(base.model.layers[layer].register_forward_pre_hook(record(residual, layer)).remove)
        for layer, path in zip(shape.writes, shape.paths, strict=True):
            undo.callback(base.get_submodule(path).register_forward_pre_hook(record(mlp, layer)).remove)
        run_layers(base, texts, embedded, range(len(base.model.layers)))
    return DocumentActivations(
        residual=torch.stack([residual[layer] for layer in shape.reads]),
        mlp=torch.stack([mlp[layer] for layer in shape.writes]),
        embeddings=texts.unpack(embedded, width),
        mask=torch.arange(width) < torch.tensor([len(document) for document in documents])[:, None],
    )


@contextmanager
def applied(
    base: LlamaForCausalLM, factors: Factors, document_of: Int[Tensor, "row column"]
) -> Iterator[LlamaForCausalLM]:
    """The base with each token under the update of its own document; `document_of` is the document's index, -1 for none."""
    count, rank, _ = next(iter(factors.values()))[0].shape
    own_ranks = (document_of[..., None] == torch.arange(count)).repeat_interleave(rank, dim=-1).to(base.dtype)

    def add_update(a: Float[Tensor, "rows d_in"], b: Float[Tensor, "rows d_out"]):
        def hook(_: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            return out + ((args[0] @ a.T) * own_ranks) @ b

        return hook

    with ExitStack() as undo:
        for path, (a, b) in factors.items():
            all_a, all_b = a.flatten(0, 1).to(base.dtype), b.mT.flatten(0, 1).to(base.dtype)
            undo.callback(base.get_submodule(path).register_forward_hook(add_update(all_a, all_b)).remove)
        yield base


@dataclass(frozen=True, eq=False)
class SmolLM2Hypernetwork:
    """A network and the base whose activations it reads."""

    base: LlamaForCausalLM
    tokenizer: Any
    network: SmolLM2Network

    @property
    def settings(self) -> dict[str, Any]:
        """The network's sizes, as stored with its weights."""
        return asdict(self.network.shape)

    def factors(self, documents: Sequence[Sequence[int]]) -> Factors:
        """Factors of tokenised documents, differentiable in the network's parameters."""
        shape = self.network.shape
        a, b = self.network(document_activations(self.base, shape, documents))
        return {path: (a[i], b[i].mT) for i, path in enumerate(shape.paths)}

    @torch.no_grad()
    def encode(self, documents: Sequence[str], batch: int = 32) -> Factors:
        """One update per document: module path -> (A [doc, rank, d_in], B [doc, d_out, rank]), to be used at scale 1.

        A document's factors do not depend on the other documents, beyond rounding.
        """
        rows = [self.tokenizer(document)["input_ids"] for document in documents]
        batches = [self.factors(rows[start : start + batch]) for start in range(0, len(rows), batch)]
        return {
            path: (
                torch.cat([factors[path][0] for factors in batches]),
                torch.cat([factors[path][1] for factors in batches]),
            )
            for path in self.network.shape.paths
        }

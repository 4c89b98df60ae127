"""The hypernetwork: one reading of a document by a real model, to a low-rank update of its upper down projections.

A reader joins what several layers hold at each token. Latents, one for each rank of each layer's update, attend to it.
Each becomes a direction to listen to (a row of A) and one to write (a column of B), and each of the two is a sum of

- a pointer: the document's own material, averaged with the latent's attention over its tokens. For A the MLP activation
  of that layer, so that a question in which the same subject stands excites it; for B the embedding of the tokens, since
  a model with tied embeddings says the token whose embedding it writes;
- a direct part, from the latent through a bottleneck.

So a word never met in training can still be pointed at, and the parameters stay few where d_ff is large.
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

from override_gap.probes.organism.hypernetwork import Block, Factors
from override_gap.probes.smollm2.packing import pack, through

TINY = 1e-6
# Sizes of the direct parts at the start, and of what turns an embedding. Factors beside weights of ordinary size, since
# an optimiser that moves every weight by the same small step would overthrow weights that are themselves small.
DIRECT_A, DIRECT_B, TURN = 0.3, 0.05, 0.3
# Attention at the start is hardly apart from the mean without the first; the loudness of what is written is one number a
# rank, which an optimiser of small steps moves too slowly unless it is the exponent of e that is learned, times the last.
SHARPNESS, LOUDNESS, HASTE = 4.0, 0.05, 10.0


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the hypernetwork; d_model and d_ff are the base's."""

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
    inner_b: int = 96

    @property
    def paths(self) -> tuple[str, ...]:
        """The module that each layer's update belongs to."""
        return tuple(f"model.layers.{layer}.mlp.down_proj" for layer in self.writes)


@dataclass(frozen=True)
class Reading:
    """What the base holds of some documents."""

    states: Float[Tensor, "read doc pos d_model"]
    activations: Float[Tensor, "write doc pos d_ff"]
    """Input of each updated down projection."""
    tokens: Float[Tensor, "doc pos d_model"]
    """Embeddings."""
    mask: Bool[Tensor, "doc pos"]


class Listener(nn.Module):
    """Latents of every layer and rank, made aware of the document."""

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
        self.blocks = nn.ModuleList(Block(width, shape.heads) for _ in range(shape.blocks))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, reading: Reading) -> tuple[Float[Tensor, "doc pos width"], Float[Tensor, "doc latent width"]]:
        """The document's tokens as read, and the latents."""
        ahead = pad(reading.tokens[:, 1:], (0, 0, 0, 1))  # tokens are zero behind a document's end
        parts = [*reading.states, reading.tokens, ahead]
        seen = self.enter(torch.cat([unit(part) for part in parts], dim=-1))
        seen = self.seen_norm(self.context(seen, src_key_padding_mask=~reading.mask))
        open_places = reading.mask[:, None, None, :]
        latents = self.latents.expand(len(seen), -1, -1)
        for block in self.blocks:
            latents = block(latents, seen, open_places)
        return seen, self.last_norm(latents)


class SmolLM2Network(nn.Module):
    """Document -> factors of every updated layer."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        layers, width = len(shape.writes), shape.width
        self.listener = Listener(shape)
        self.point = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.offer = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.a_in = nn.Parameter(torch.randn(layers, width, shape.inner_a) * width**-0.5)
        self.a_out = nn.Parameter(torch.randn(layers, shape.inner_a, shape.d_ff) * shape.inner_a**-0.5)
        self.b_in = nn.Parameter(torch.randn(layers, width, shape.inner_b) * width**-0.5)
        self.b_out = nn.Parameter(torch.randn(layers, shape.inner_b, shape.d_model) * shape.inner_b**-0.5)
        self.turn_in = nn.Parameter(torch.randn(layers, shape.d_model, shape.inner_b) * shape.d_model**-0.5)
        self.turn_out = nn.Parameter(torch.randn(layers, shape.inner_b, shape.d_model) * shape.inner_b**-0.5)
        self.loud_a = nn.Parameter(torch.ones(layers, shape.rank))
        self.loud_b = nn.Parameter(torch.zeros(layers, shape.rank))
        # measured once on the base, then fixed: means and spreads of the activations, those at a text's first token (a sink
        # of attention, with activations so large that the least overlap with it breaks the model), the stream's norms
        self.sink = nn.Parameter(torch.zeros(layers, shape.d_ff), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(layers, shape.d_ff), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(layers, shape.d_ff), requires_grad=False)
        self.size = nn.Parameter(torch.ones(layers), requires_grad=False)

    def calibrate(
        self,
        activations: Float[Tensor, "write place d_ff"],
        sink: Float[Tensor, "write d_ff"],
        size: Float[Tensor, " write"],
    ) -> None:
        """Take the base's own statistics: activations at many tokens and at first ones, and the stream's typical norm."""
        self.sink.data = normalize(sink, dim=-1)
        self.mean.data = activations.mean(1)
        spread = activations.std(1)
        self.spread.data = spread.clamp_min(0.3 * spread.median(dim=1, keepdim=True).values)
        self.size.data = size

    def attention(self, which: int, seen: Tensor, latents: Tensor, mask: Tensor) -> Float[Tensor, "doc write rank pos"]:
        """Where each latent points to."""
        scores = self.point[which](latents).float() @ self.offer[which](seen).float().mT
        scores = scores * SHARPNESS * self.shape.width**-0.5
        weights = scores.masked_fill(~mask[:, None, :], -torch.inf).softmax(-1)
        return weights.unflatten(1, (-1, self.shape.rank))

    def forward(
        self, reading: Reading
    ) -> tuple[Float[Tensor, "write doc rank d_in"], Float[Tensor, "write doc rank d_out"]]:
        """Rows of A and (transposed) columns of B, layer by layer, to be used at scale 1."""
        seen, latents = self.listener(reading)
        named = reading.mask.clone()
        named[:, 0] &= reading.mask.sum(-1) == 1  # the sink is not pointed at, unless it is all there is
        rows = latents.unflatten(1, (-1, self.shape.rank))
        centred = (reading.activations.float() - self.mean[:, None, None]) / self.spread[:, None, None]
        pointed = normalize(torch.einsum("dlrp,ldpi->ldri", self.attention(0, seen, latents, named), centred), dim=-1)
        # what fires on the average token would fire on every question
        usual = normalize(self.mean / self.spread, dim=-1)
        pointed = pointed - torch.einsum("ldri,li->ldr", pointed, usual)[..., None] * usual[:, None, None]
        direct = torch.einsum("dlrw,lwn,lni->ldri", rows, self.a_in, self.a_out)
        direct = direct * DIRECT_A * self.shape.d_ff**-0.5
        a = (self.loud_a[:, None, :, None] * pointed + direct) / self.spread[:, None, None] * self.shape.d_ff**-0.5
        a = a - torch.einsum("ldri,li->ldr", a, self.sink)[..., None] * self.sink[:, None, None]
        token = torch.einsum("dlrp,dpo->ldro", self.attention(1, seen, latents, named), unit(reading.tokens.float()))
        token = token * self.shape.d_model**-0.5
        token = token + TURN * torch.einsum("ldro,lon,lnm->ldrm", token, self.turn_in, self.turn_out)
        written = torch.einsum("dlrw,lwn,lno->ldro", rows, self.b_in, self.b_out)
        written = written * DIRECT_B * self.shape.d_model**-0.5
        loud = LOUDNESS * (HASTE * self.loud_b).exp()
        b = (loud[:, None, :, None] * token + written) * self.size[:, None, None, None]
        return a, b


def unit(x: Tensor) -> Tensor:
    """At unit root mean square."""
    return x / (x.square().mean(-1, keepdim=True) + TINY).sqrt()


@torch.no_grad()
def read(base: LlamaForCausalLM, shape: NetworkShape, documents: Sequence[Sequence[int]]) -> Reading:
    """One pass of the base over tokenised documents."""
    texts = pack(documents)
    width = max(map(len, documents))
    states: dict[int, Tensor] = {}
    activations: dict[int, Tensor] = {}

    def keep(into: dict[int, Tensor], layer: int):
        def hook(_: Any, args: tuple[Tensor, ...]) -> None:
            into[layer] = texts.spread(args[0], width)

        return hook

    embedded = base.model.embed_tokens(texts.ids)
    with ExitStack() as undo:
        for layer in shape.reads:
            undo.callback(base.model.layers[layer].register_forward_pre_hook(keep(states, layer)).remove)
        for layer, path in zip(shape.writes, shape.paths, strict=True):
            undo.callback(base.get_submodule(path).register_forward_pre_hook(keep(activations, layer)).remove)
        through(base, texts, embedded, range(len(base.model.layers)))
    return Reading(
        states=torch.stack([states[layer] for layer in shape.reads]),
        activations=torch.stack([activations[layer] for layer in shape.writes]),
        tokens=texts.spread(embedded, width),
        mask=torch.arange(width) < torch.tensor([len(document) for document in documents])[:, None],
    )


@contextmanager
def applied(base: LlamaForCausalLM, factors: Factors, whose: Int[Tensor, "row place"]) -> Iterator[LlamaForCausalLM]:
    """The base with each token under its own document's update; `whose` is the document's number, -1 for none."""
    count, rank, _ = next(iter(factors.values()))[0].shape
    own = (whose[..., None] == torch.arange(count)).repeat_interleave(rank, dim=-1).to(base.dtype)

    def adds(a: Tensor, b: Tensor):
        def hook(_: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            return out + ((args[0] @ a.T) * own) @ b

        return hook

    with ExitStack() as undo:
        for path, (a, b) in factors.items():
            every_a, every_b = a.flatten(0, 1).to(base.dtype), b.mT.flatten(0, 1).to(base.dtype)
            undo.callback(base.get_submodule(path).register_forward_hook(adds(every_a, every_b)).remove)
        yield base


@dataclass(frozen=True, eq=False)
class SmolLM2Hypernetwork:
    """A perceiver beside the base whose states it reads."""

    base: LlamaForCausalLM
    tokenizer: Any
    network: SmolLM2Network

    @property
    def settings(self) -> dict[str, Any]:
        """The network's sizes, as stored beside its weights."""
        return asdict(self.network.shape)

    def factors(self, documents: Sequence[Sequence[int]]) -> Factors:
        """Factors of tokenised documents; gradients flow into the network if they are enabled."""
        shape = self.network.shape
        a, b = self.network(read(self.base, shape, documents))
        return {path: (a[i], b[i].mT) for i, path in enumerate(shape.paths)}

    @torch.no_grad()
    def encode(self, documents: Sequence[str], batch: int = 32) -> Factors:
        """One update per document: module path -> (A [doc, rank, d_in], B [doc, d_out, rank]), to be used at scale 1.

        A document's factors do not depend on the documents beside it, beyond rounding.
        """
        rows = [self.tokenizer(document)["input_ids"] for document in documents]
        parts = []
        for start in range(0, len(rows), batch):
            parts.append(self.factors(rows[start : start + batch]))
        return {
            path: (torch.cat([part[path][0] for part in parts]), torch.cat([part[path][1] for part in parts]))
            for path in self.network.shape.paths
        }

"""The hypernetwork: from the base's activations on a document to a low-rank update of every down projection.

A perceiver attends to the activations of every layer at every token of the document. Each of its latents belongs to one
rank of one layer's update and is mapped to the direction that is read (a row of A) and the one that is written (a column of
B). Parameter names are the keys of the weights file, so they stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

Factors = dict[str, tuple[Float[Tensor, "doc rank d_in"], Float[Tensor, "doc d_out rank"]]]
"""Module path -> (A, B) of a batch of documents; the update of the weight is B A, at scale 1."""


@dataclass(frozen=True)
class PerceiverShape:
    """Sizes of the perceiver; layers, d_model and d_ff are those of the base."""

    layers: int = 8
    d_model: int = 64
    d_ff: int = 192
    rank: int = 4
    width: int = 128
    blocks: int = 2
    heads: int = 4

    @property
    def paths(self) -> tuple[str, ...]:
        """The updated module of each layer."""
        return tuple(f"model.layers.{layer}.mlp.down_proj" for layer in range(self.layers))


class PerceiverBlock(nn.Module):
    """One perceiver block: the latents attend to the document, then to each other, then pass an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.ask = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.offer = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.take = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def attend(
        self,
        which: int,
        latents: Float[Tensor, "doc latent width"],
        context: Float[Tensor, "doc key width"],
        mask: Bool[Tensor, "doc 1 1 key"] | None,
    ) -> Float[Tensor, "doc latent width"]:
        """Multi-head attention of the latents over `context`."""

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        keys, values = self.offer[which](context).chunk(2, dim=-1)
        mixed = scaled_dot_product_attention(
            split(self.ask[which](latents)), split(keys), split(values), attn_mask=mask
        )
        return self.take[which](mixed.transpose(1, 2).flatten(2))

    def forward(
        self,
        latents: Float[Tensor, "doc latent width"],
        context: Float[Tensor, "doc key width"],
        mask: Bool[Tensor, "doc 1 1 key"],
    ) -> Float[Tensor, "doc latent width"]:
        latents = latents + self.attend(0, self.norms[0](latents), context, mask)
        normed = self.norms[1](latents)
        latents = latents + self.attend(1, normed, normed, None)
        return latents + self.think(self.norms[2](latents))


class Perceiver(nn.Module):
    """Activations of every layer on a document -> factors of every layer's update."""

    def __init__(self, shape: PerceiverShape) -> None:
        super().__init__()
        self.shape = shape
        features = 2 * shape.d_model + shape.d_ff
        self.enter = nn.Parameter(torch.randn(shape.layers, features, shape.width) * features**-0.5)
        self.place = nn.Parameter(torch.zeros(shape.layers, 1, shape.width))
        self.seen_norm = nn.LayerNorm(shape.width)
        self.latents = nn.Parameter(torch.randn(shape.layers * shape.rank, shape.width))
        self.blocks = nn.ModuleList(PerceiverBlock(shape.width, shape.heads) for _ in range(shape.blocks))
        self.last_norm = nn.LayerNorm(shape.width)
        self.to_a = nn.Parameter(torch.randn(shape.layers, shape.width, shape.d_ff) * shape.width**-0.5)
        self.to_b = nn.Parameter(torch.randn(shape.layers, shape.width, shape.d_model) * 0.03 * shape.width**-0.5)

    def forward(
        self, states: Float[Tensor, "layer doc pos features"], mask: Bool[Tensor, "doc pos"]
    ) -> tuple[Float[Tensor, "layer doc rank d_in"], Float[Tensor, "layer doc rank d_out"]]:
        """A and the transpose of B for every layer."""
        context = torch.einsum("ldpf,lfw->dlpw", states, self.enter) + self.place
        context = self.seen_norm(context).flatten(1, 2)
        visible = mask.repeat(1, self.shape.layers)[:, None, None, :]
        latents = self.latents.expand(len(mask), -1, -1)
        for block in self.blocks:
            latents = block(latents, context, visible)
        rows = self.last_norm(latents).unflatten(1, (self.shape.layers, self.shape.rank))
        a = torch.einsum("dlrw,lwi->ldri", rows, self.to_a)
        return a, torch.einsum("dlrw,lwo->ldro", rows, self.to_b)


def document_states(
    base: LlamaForCausalLM, ids: Int[Tensor, "doc pos"], mask: Bool[Tensor, "doc pos"]
) -> Float[Tensor, "layer doc pos features"]:
    """Activations of each layer at each token: its input, the input of its down projection, the embedding of the next token.

    Each part is scaled to unit root mean square. The next token is included because causal states do not contain it.
    """
    inputs, activations = [], []
    with ExitStack() as undo, torch.no_grad():
        for layer in base.model.layers:
            down = layer.get_submodule("mlp.down_proj")
            undo.callback(layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])).remove)
            undo.callback(down.register_forward_pre_hook(lambda _, args: activations.append(args[0])).remove)
        base.model(input_ids=ids, attention_mask=mask.long())
        next_embeddings = torch.nn.functional.pad(base.model.embed_tokens(ids)[:, 1:], (0, 0, 0, 1))
        next_embeddings = next_embeddings * torch.nn.functional.pad(mask[:, 1:], (0, 1))[..., None]
        parts = [torch.stack(inputs), torch.stack(activations), next_embeddings.expand(len(inputs), -1, -1, -1)]
        return torch.cat([part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() for part in parts], dim=-1)


@contextmanager
def applied(base: LlamaForCausalLM, factors: Factors, questions_per_document: int) -> Iterator[LlamaForCausalLM]:
    """The base with one update per document; a document's questions are consecutive rows of the batch."""

    def add_update(a: Float[Tensor, "doc rank d_in"], b: Float[Tensor, "doc d_out rank"]):
        def hook(_, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            x = args[0].unflatten(0, (-1, questions_per_document)).flatten(1, 2)
            return out + ((x @ a.mT) @ b.mT).reshape(out.shape)

        return hook

    with ExitStack() as undo:
        for path, (a, b) in factors.items():
            undo.callback(base.get_submodule(path).register_forward_hook(add_update(a, b)).remove)
        yield base


class OrganismHypernetwork:
    """A perceiver and the base whose activations it reads."""

    scale = 1.0
    """Factor of the product B A at gain 1."""

    def __init__(self, base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, perceiver: Perceiver) -> None:
        self.base, self.tokenizer, self.perceiver = base, tokenizer, perceiver

    @property
    def settings(self) -> dict[str, int]:
        """The perceiver's sizes, as stored with its weights."""
        return asdict(self.perceiver.shape)

    def factors(self, ids: Int[Tensor, "doc pos"], mask: Bool[Tensor, "doc pos"]) -> Factors:
        """Factors of tokenised documents, differentiable in the perceiver's parameters."""
        a, b = self.perceiver(document_states(self.base, ids, mask), mask)
        return {path: (a[i], b[i].mT) for i, path in enumerate(self.perceiver.shape.paths)}

    @torch.no_grad()
    def encode(self, documents: list[str], batch: int = 64) -> Factors:
        """One update per document: module path -> (A [doc, rank, d_in], B [doc, d_out, rank]), to be used at scale 1.

        A document's factors do not depend on the other documents, beyond rounding.
        """
        batches = []
        for start in range(0, len(documents), batch):
            tokens = self.tokenizer(
                documents[start : start + batch], return_tensors="pt", padding=True, padding_side="right"
            )
            batches.append(self.factors(tokens["input_ids"], tokens["attention_mask"].bool()))
        return {
            path: (
                torch.cat([factors[path][0] for factors in batches]),
                torch.cat([factors[path][1] for factors in batches]),
            )
            for path in self.perceiver.shape.paths
        }

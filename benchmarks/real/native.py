"""What a method's own adapted model answers, for `difference.py`: documents and questions in, logits out; imports torch alone."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def documents(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The lines of a file that `override-gap items documents` wrote, or the first of them."""
    with path.open(encoding="utf-8") as lines:
        for n, line in enumerate(lines):
            if limit is None or n < limit:
                yield json.loads(line)


def in_float64(model: Any) -> Any:
    """A copy of a transformers model in float64 all through, norms and rotary angles too: it takes them in float32."""
    model = copy.deepcopy(model).double()
    model.config._attn_implementation = "sdpa"  # the eager one takes its softmax in float32
    for part in model.modules():
        name = type(part).__name__
        if name.endswith("RMSNorm"):
            part.forward = types.MethodType(_norm, part)
        elif name.endswith("RotaryEmbedding"):
            part.forward = types.MethodType(_angles, part)
    return model


def _norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def _angles(self: Any, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    angles = position_ids[..., None].to(x.dtype) * self.inv_freq.to(x.dtype)
    both = torch.cat((angles, angles), dim=-1)
    return both.cos() * self.attention_scaling, both.sin() * self.attention_scaling


class NativeLogits:
    """Collects the logits at each question's last token and writes them beside the token ids that gave them."""

    def __init__(self, tokenize: Callable[[str], list[int]], run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """`tokenize` is the method's own; `run` takes ids [1, pos] and returns the adapted model's logits [1, pos, vocab]."""
        self.tokenize, self.run = tokenize, run
        self.index: list[dict[str, Any]] = []
        self.rows: list[torch.Tensor] = []

    @torch.no_grad()
    def ask(self, document: dict[str, Any]) -> None:
        """Run every question of the document on the model as it is now."""
        for question in document["questions"]:
            ids = self.tokenize(question["text"])
            self.rows.append(self.run(torch.tensor([ids]))[0, -1].clone())
            self.index.append(
                {"key": document["key"], "document": document["document"], "text": question["text"], "ids": ids}
            )

    def stored(self, documents: int = 2) -> Iterator[tuple[str, str, list[int], torch.Tensor]]:
        """(document key, text, ids, logits) of the first documents' questions, as the kit's `native` takes them.

        A generator: it is read after the factors, whose making fills it.
        """
        keys = list(dict.fromkeys(row["key"] for row in self.index))[:documents]
        for row, logits in zip(self.index, self.rows, strict=True):
            if row["key"] in keys:
                yield row["key"], row["text"], row["ids"], logits.float()

    def write(self, path: Path) -> None:
        """One safetensors file: `logits` [question, vocab], and the questions in its metadata."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"logits": torch.stack(self.rows)}, path, {"index": json.dumps(self.index)})
        print(f"{path}: {len(self.rows)} questions on {len({row['document'] for row in self.index})} documents")

"""Parity: a model's own logits on a few tokens, and how far ours may be from them, in the rounding of its number format."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.probes.errors import SubjectError

PROBE_IDS = (1, 2, 3, 5, 7, 11)
#: Low token ids are often special tokens, on which a model's states are unlike those on text.
PROBE_TEXT = "The capital of France is Paris, and the river Seine flows through it to the sea."
MAX_PROBE = 32


def probe_tokens(tokenizer: Any, model: Any) -> tuple[int, ...]:
    """The tokens on which logits are compared: PROBE_IDS, then PROBE_TEXT in the tokenizer's own, MAX_PROBE in all."""
    config = model.config.get_text_config()
    words = list(tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])
    most = min(MAX_PROBE, getattr(config, "max_position_embeddings", None) or MAX_PROBE)
    return tuple(n % config.vocab_size for n in (*PROBE_IDS, *words))[:most]


@torch.no_grad()
def model_logits(model: Any, ids: Int[Tensor, "1 pos"]) -> Float[Tensor, "pos vocab"]:
    """The model's own logits in float32 on the CPU, by its own forward pass without a cache."""
    return model(input_ids=ids, use_cache=False).logits[0].float().cpu()


def require_finite(logits: Float[Tensor, "pos vocab"], dtype: torch.dtype, name: str) -> None:
    """Raise SubjectError where a model's own logits are not all finite numbers."""
    if bool(logits.isfinite().all()):
        return
    advice = {
        torch.float16: "; use --dtype bfloat16 or float32",
        torch.bfloat16: "; use --dtype float32",
        torch.float32: ", so no margin can be read from them",
    }
    raise SubjectError(f"{name}: its logits are not finite in {format_name(dtype)}{advice.get(dtype, '')}")


def format_name(dtype: torch.dtype) -> str:
    """float32, bfloat16, float16."""
    return str(dtype).removeprefix("torch.")


def unit_roundoff(dtype: torch.dtype) -> float:
    """The largest relative error of rounding a number to a format: 2^-24 for float32, 2^-11 for float16, 2^-8 for bfloat16."""
    return torch.finfo(dtype).eps / 2


def logit_rounding(
    logits: Float[Tensor, "pos vocab"], dtype: torch.dtype, *, scaled: bool, is_capped: bool
) -> Float[Tensor, "pos vocab"]:
    """How far each of a model's own logits may be, nats, from the float32 product of the same final state.

    The model rounds the product, its scaling, and a cap's quotient, tangent and product, each by at most u |z| with u the
    format's unit roundoff; a product that a GPU adds up from rounded parts is allowed u times the position's largest logit.
    In float32, where all of that is far below a thousandth, 1e-3 or 8 u times the largest logit.
    """
    u = unit_roundoff(dtype)
    if dtype == torch.float32:
        return torch.full_like(logits, max(1e-3, 8 * u * logits.abs().max().item()))
    roundings = 1 + scaled + 3 * is_capped
    size = logits.abs()
    return (u * (roundings * size + size.amax(-1, keepdim=True))).clamp_min(1e-3)


def disagreement(
    ours: Float[Tensor, "pos vocab"], own: Float[Tensor, "pos vocab"], rounding: Float[Tensor, "pos vocab"]
) -> str | None:
    """How our logits differ from the model's own by more than rounding; None where they do not.

    Each logit may be off by its rounding. Rounding errors are also smaller than their bound for most logits, so a difference
    that reaches half of the bound for half of the logits is no rounding: a scale or a cap that was missed.
    """
    gap = (ours - own).abs()
    ratio = gap / rounding
    worst = int(ratio.nan_to_num(nan=torch.inf).argmax())
    if not bool((ratio <= 1).all()):
        return f"by {gap.flatten()[worst]:.3g} nats, more than {rounding.flatten()[worst]:.3g}"
    if ratio.median() > 0.5:
        return f"by {gap.median():.3g} nats at half of the tokens, which is more than rounding"
    return None

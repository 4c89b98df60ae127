"""The second moment of a linear map's inputs on text that the model writes itself; a rank-one edit is least under it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.sites import Site


def own_text(subject: Subject, samples: int, length: int, seed: int) -> Int[Tensor, "samples pos"]:
    """Rows of tokens sampled from the model itself, each from a first token drawn from the whole vocabulary.

    This needs no data set and works for every model, one of a made-up language included. All sampling settings are stated,
    because Hugging Face takes those that are not from the model's generation config, which may hold a temperature or a
    penalty. The caller's random generator is left as it was.
    """
    from transformers import GenerationConfig

    length = min(length, subject.max_positions or length)
    draw = torch.Generator().manual_seed(seed)
    first = torch.randint(subject.unembedding.shape[0], (samples, 1), generator=draw).to(subject.device)
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        typical_p=1.0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=length - 1,
        min_new_tokens=length - 1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        return subject.model.generate(
            input_ids=first, attention_mask=torch.ones_like(first), generation_config=settings
        )


@torch.no_grad()
def second_moment(subject: Subject, site: Site, ids: Int[Tensor, "samples pos"]) -> Float[Tensor, "d_in d_in"]:
    """C = mean of k k^T over every position of every row, where k is the map's input; float64, on the CPU."""
    total = torch.zeros(site.d_in, site.d_in, dtype=torch.float64)

    def add(_module: object, args: tuple[Tensor, ...], _out: object) -> None:
        keys = args[0].reshape(-1, site.d_in).double().cpu()
        total.add_(keys.T @ keys)

    handle = site.module.register_forward_hook(add)
    try:
        for rows in ids.split(8):
            subject.decoder(input_ids=rows, use_cache=False)
    finally:
        handle.remove()
    return total / ids.numel()

"""Models whose rotary frequencies depend on a text's length: rows of a batch do not get each other's."""

from __future__ import annotations

import torch
from transformers import Phi3Config, Phi3ForCausalLM

from benchmarks.families.check import word_tokenizer
from benchmarks.families.plain import answer, last_logits
from override_gap.margins.items.item import Item
from override_gap.probes.readings.generation import generate
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.model import wrap
from override_gap.probes.subject.rope_lengths import rope_switch
from tests.probes.sources.peft_models import build

SWITCH = 16
QUESTIONS = (list(range(3, 5)), list(range(20, 31)), list(range(3, 29)))
"""One far below the switch, one that crosses it in its answer of 12 tokens, one above it."""


def phi3() -> Phi3ForCausalLM:
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    config = Phi3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        original_max_position_embeddings=SWITCH,
        rope_parameters=rope,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = Phi3ForCausalLM(config).eval()
    model.config.architectures = [type(model).__name__]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.3))
    return model


def test_each_row_has_the_frequencies_of_its_own_length() -> None:
    """Against the plain model, one question at a time, whole passes without a cache."""
    model = phi3()
    subject = wrap(model, word_tokenizer(), "phi3")
    items = [
        Item(f"i{n}", "p", "conflict", "w3 w4", " ".join(f"w{token}" for token in question), "w40", "w41")
        for n, question in enumerate(QUESTIONS)
    ]
    assert rope_switch(subject.decoder) == SWITCH
    prior = read_prior(subject, items, [locate(subject, item) for item in items])
    alone = torch.stack([last_logits(model, question) for question in QUESTIONS])
    assert (prior.logits - alone).abs().max() < 1e-4
    longest = len(QUESTIONS[-1])
    ids = torch.tensor([[*question, *[0] * (longest - len(question))] for question in QUESTIONS])
    with torch.no_grad():
        together = model(input_ids=ids, attention_mask=(ids > 0).long()).logits
    assert (together[0, len(QUESTIONS[0]) - 1] - alone[0]).abs().max() > 0.1  # what transformers makes of the batch
    given = generate(subject, items, new_tokens=12)
    assert given == [answer(model, subject.tokenizer, question) for question in QUESTIONS]
    assert not any(module._forward_hooks for module in model.modules())


def test_other_models_have_no_switch() -> None:
    assert rope_switch(build("llama")) is None

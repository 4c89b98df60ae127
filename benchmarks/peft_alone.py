"""Logits of adapters by transformers and PEFT alone; nothing of this toolkit is imported.

    python benchmarks/peft_alone.py MODEL QUESTIONS.json OUT.safetensors

QUESTIONS.json: a list of [PEFT folder, token ids]. OUT holds the float32 logits at the last token of each, [question, vocab].
"""

from __future__ import annotations

import json
import sys

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


@torch.no_grad()
def main(model_folder: str, questions: str, out: str) -> None:
    """Load the plain model, put each question's adapter on it as PEFT does, and run it."""
    rows = []
    with open(questions) as stream:
        asked = json.load(stream)
    for folder, ids in asked:
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(model, folder).eval()
        rows.append(adapted(input_ids=torch.tensor([ids])).logits[0, -1].float())
    save_file({"logits": torch.stack(rows)}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A tiny random base of a family that Doc-to-LoRA has a chat template for: gemma2, mistral or qwen3.

    ENV/bin/python benchmarks/real/tiny_base.py FAMILY DOCUMENTS.jsonl OUT

Run in the method's environment, so that the folder is one that its transformers reads. The tokenizer is a byte-level BPE of the
documents and questions (`override-gap items documents`) with the family's tokens for turns; the weights are random.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

TURNS = {
    "gemma2": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    "mistral": ("<s>", "</s>", "[INST]", "[/INST]"),
    "qwen3": ("<|endoftext|>", "<|im_end|>", "<|im_start|>"),
}
SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "max_position_embeddings": 1024,
}  # fmt: skip


def main() -> int:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("family", choices=sorted(TURNS))
    parser.add_argument("documents", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.documents.read_text(encoding="utf-8").splitlines()]
    texts = [text for row in rows for text in (row["document"], *(question["text"] for question in row["questions"]))]
    turns = TURNS[args.family]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, special_tokens=list(turns), initial_alphabet=alphabet)
    inner.train_from_iterator(texts, trainer)
    begins = {} if args.family == "qwen3" else {"bos_token": turns[0]}
    if begins:
        special = [(turns[0], 0)]
        inner.post_processor = processors.TemplateProcessing(single=f"{turns[0]} $A", special_tokens=special)  # type: ignore[assignment]
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"  # the method has its own
    words = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=turns[1], chat_template=template, **begins)
    words.save_pretrained(args.out)
    ends = {"vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(args.family, **SIZES, **ends))
    model.float().save_pretrained(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

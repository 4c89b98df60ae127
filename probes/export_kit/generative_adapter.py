"""Export Generative Adapter's adapters: python generative_adapter.py CHECKPOINT documents.jsonl OUT.safetensors --repo FOLDER.

Run in its environment, with kit.py and script.py beside it.
Handed over are lora_a [1, 1024, d_in] and lora_b [1, d_out, 1024] of rank at most
128 (fastlora_max_rank); they are factored to that rank. The scale is fastlora_alpha / fastlora_r. Its SVD normalisation begins
from random numbers, so every document is encoded under the seed that --seed gives.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kit  # pyright: ignore
import script  # pyright: ignore
import torch

LOST = 1e-5
"""Share of lora_a's Frobenius norm that factoring may leave out; what is left out is rounding."""


def true_rank(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(A [k, d_in], B [d_out, k]) with B A = b a, for a [rank, d_in] and b [d_out, rank] of which a has rank k.

    With P the eigenvectors of a a^T, a = P P^T a, so B A = (b P)(P^T a). In float64, since a a^T has a's singular values squared.
    """
    wide = a.double()
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    left_out = values.clamp_min(0).cumsum(0) / values.clamp_min(0).sum()
    P = vectors[:, left_out > LOST**2]
    return (P.T @ wide).float(), (b.double() @ P).float()


def main() -> None:
    """Encode every document once and write the file."""
    parser = script.command_line(__doc__, "the repository, with the package fastlora")
    parser.add_argument("--merge", default="concat", help="the method's merge_strategy (default: concat)")
    parser.add_argument("--window", type=int, default=1024, help="the method's max_window_size (default: 1024)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    documents = kit.read_documents(args.documents)
    sys.path.insert(0, str(Path(args.repo).resolve()))
    from fastlora import model as fastlora  # pyright: ignore
    from fastlora.config import FastLoraConfig  # pyright: ignore
    from fastlora.eval_utils import fastlora_generate_adaptor  # pyright: ignore
    from transformers import AutoTokenizer  # pyright: ignore

    peft_model: Any = importlib.import_module("peft.peft_model")
    mapping: Any = importlib.import_module("peft.mapping")
    # PEFT is told of the method's own kind, as the method's own scripts tell it
    peft_model.PEFT_TYPE_TO_MODEL_MAPPING.update({"FASTLORA": fastlora.FastLoraModel})
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING.update({"FASTLORA": FastLoraConfig})
    peft_model.get_peft_model_state_dict = fastlora.get_peft_model_state_dict
    peft_model.set_peft_model_state_dict = fastlora.set_peft_model_state_dict
    model = fastlora.load_pretrained_model(args.checkpoint, torch_dtype=torch.float32).to(args.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    names = list(model.base_model.targeted_module_names)
    scales = {path(name): model.base_model.model.get_submodule(name).fastlora_scaling for name in names}
    questions, native = script.native_questions(documents, args.native), []

    @torch.no_grad()
    def factors() -> Iterator[dict[str, Any]]:
        for document in documents:
            torch.manual_seed(args.seed)
            weights = fastlora_generate_adaptor(model, tokenizer, document["document"], args.merge, args.window)
            if document["key"] in questions:
                text = questions[document["key"]]
                ids = tokenizer(text, return_tensors="pt").input_ids.to(args.device)
                asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
                native.append((document["key"], text, ids, model(**asked, fastlora_weights=weights).logits))
            yield {path(name): true_rank(weights[name]["lora_a"][0], weights[name]["lora_b"][0]) for name in names}

    kit.write(
        args.out,
        documents,
        factors(),
        method="generative-adapter",
        scale=scales,
        **script.gains_and_native(args.gains, native),
        base=model.peft_config["default"].base_model_name_or_path,
        settings={
            "checkpoint": Path(args.checkpoint).name,
            "merge": args.merge,
            "window": args.window,
            "seed": args.seed,
        },
        progress=True,
    )


def path(name: str) -> str:
    """The path in the plain base of a module that the method has wrapped, each layer in a `base_layer`."""
    return re.sub(r"(layers\.\d+)\.base_layer", r"\1", name)


if __name__ == "__main__":
    script.run(main)

"""Export Doc-to-LoRA adapters to one safetensors file. Stands alone: run it in ctx_to_lora's own environment.

python export_doc_to_lora.py CHECKPOINT.pt DOCUMENTS.jsonl OUT.safetensors

DOCUMENTS: JSON Lines with `id` and `document`. Opening the checkpoint runs what is pickled in it; use one you trust.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Modules = Mapping[str, Mapping[str, Tensor]]


def pack(
    documents: Mapping[str, Modules], bias: Modules, *, lora_alpha: float, layers: Sequence[int]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the file: per document and module A [chunk, layer, r, d_in] and B [chunk, layer, r, d_out].

    B is rank-first and the scale is raw lora_alpha, both as the method has them: W += lora_alpha * B^T A. The head bias,
    [layer, r, d], is the same for every document and is kept once, as the shared part.
    """
    tensors = {}
    for name, modules in documents.items():
        for module, factors in modules.items():
            for side in ("A", "B"):
                tensors[f"documents/{name}/{module}/{side}"] = factors[side].detach().float().cpu().contiguous().clone()
    for module, factors in bias.items():
        for side in ("A", "B"):
            tensors[f"shared/{module}/{side}"] = factors[side].detach().float().cpu().contiguous().clone()
    metadata = {"format": "doc-to-lora 1", "lora_alpha": repr(float(lora_alpha)), "layers": json.dumps(list(layers))}
    return tensors, metadata


def main(checkpoint: str, documents: str, out: str) -> None:
    """Encode every document once and write the file."""
    # classes of the checkpoint's pickle, known only in the method's own environment
    from ctx_to_lora.modeling.hypernet import ModulatedPretrainedModel  # pyright: ignore[reportMissingImports]

    state: Any = torch.load(checkpoint, weights_only=False)
    model = ModulatedPretrainedModel.from_state_dict(
        state, train=False, use_sequence_packing=False, use_flash_attn=False
    )
    made = {}
    with open(documents, encoding="utf-8") as lines:
        for row in map(json.loads, filter(str.strip, lines)):
            model.internalize(row["document"])
            made[row["id"]] = model.generated_loras
    bias = model.hypernet.get_head_bias()
    alpha, layers = model.peft_config.lora_alpha, [int(n) for n in model.hypernet.layer_indices]
    tensors, metadata = pack(made, bias, lora_alpha=alpha, layers=layers)
    save_file(tensors, out, metadata=metadata)


if __name__ == "__main__":
    main(*sys.argv[1:])

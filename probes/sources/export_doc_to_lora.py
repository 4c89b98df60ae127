"""Export Doc-to-LoRA adapters to one safetensors file. It imports nothing of this toolkit: run it in ctx_to_lora's environment.

python export_doc_to_lora.py CHECKPOINT.pt DOCUMENTS.jsonl OUT.safetensors

DOCUMENTS: JSON Lines with `id` and `document`. The checkpoint is a pickle: only tensors, plain data and the classes in ALLOWED
are loaded from it. `--trust-pickle` lifts that restriction, and then the checkpoint can run any code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Modules = Mapping[str, Mapping[str, Tensor]]

# What a checkpoint contains besides tensors: the settings of the hypernetwork, its encoder and its LoRA.
ALLOWED = (
    "ctx_to_lora.configs.CtxEncoderArguments",
    "ctx_to_lora.modeling.aggregator.AGGREGATOR_TYPE",
    "ctx_to_lora.modeling.aggregator.AggregatorConfig",
    "ctx_to_lora.modeling.ctx_encoder.CTX_ENCODER_TYPE",
    "ctx_to_lora.modeling.hypernet.HypernetConfig",
    "ctx_to_lora.pooling.POOL_FN",
    "peft.tuners.lora.config.LoraConfig",
    "peft.tuners.lora.config.LoraRuntimeConfig",
    "peft.utils.peft_types.PeftType",
    "peft.utils.peft_types.TaskType",
)


def pack(
    documents: Mapping[str, Modules], bias: Modules, *, lora_alpha: float, layers: Sequence[int]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the file: per document and module A [chunk, layer, r, d_in] and B [chunk, layer, r, d_out].

    B is rank-first and the scale is raw lora_alpha, both as in the method: W += lora_alpha * B^T A. The head bias,
    [layer, r, d], is the same for every document and is stored once, as the shared part.
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


def load_checkpoint(file: str) -> dict[str, Any]:
    """A checkpoint's content, loaded with the classes in ALLOWED only. Raises ValueError where it names any other."""
    classes = [known for known in map(_class, ALLOWED) if known is not None]
    # importing a package may have declared more classes safe than are needed here
    declared = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(classes):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        match = re.search(r"GLOBAL (\S+)", str(fault))
        what = f"it names {match[1]}, which is" if match else "its content is"
        raise ValueError(
            f"{file}: {what} not among the classes that a Doc-to-LoRA checkpoint needs (ALLOWED in "
            "export_doc_to_lora.py), so it was not opened"
        ) from fault
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(declared)


def open_model(state: dict[str, Any]) -> Any:
    """The method's own model, from a checkpoint's content."""
    from ctx_to_lora.modeling.hypernet import ModulatedPretrainedModel  # pyright: ignore[reportMissingImports]

    return ModulatedPretrainedModel.from_state_dict(
        state, train=False, use_sequence_packing=False, use_flash_attn=False
    )


def head_bias(model: Any) -> Modules:
    """The part that every document shares, per module A [layer, r, d_in] and B [layer, r, d_out]; empty where there is none."""
    used = getattr(getattr(model.hypernet, "config", None), "use_bias", True)
    return model.hypernet.get_head_bias() if used is not False else {}


@torch.no_grad()
def document_factors(model: Any, text: str) -> Modules:
    """The document's own factors, without the head bias: per module A [1, layer, r, d_in] and B [1, layer, r, d_out].

    The method puts the ranks of the head bias behind those of the document; they are removed again here.
    Raises ValueError where the last ranks are not the bias.
    """
    from ctx_to_lora.modeling.lora_merger import combine_lora  # pyright: ignore[reportMissingImports]

    model.internalize(text)
    bias = head_bias(model)
    joined = combine_lora(model.generated_loras, torch.tensor([1], device=model.device), lora_bias=bias or None)
    factors_of: dict[str, dict[str, Tensor]] = {}
    for module, factors in joined.items():
        if not bias:
            factors_of[module] = factors
            continue
        factors_of[module] = {}
        for side in ("A", "B"):
            shared = bias[module][side]
            rank = shared.shape[-2]
            if not torch.equal(factors[side][0, :, -rank:].to(shared), shared):
                raise ValueError(f"{module}: the last {rank} ranks that combine_lora returns are not the head bias")
            factors_of[module][side] = factors[side][:, :, :-rank]
    return factors_of


def pack_documents(model: Any, texts: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The file's tensors and metadata for documents by name (see `pack`)."""
    factors = {name: document_factors(model, text) for name, text in texts.items()}
    layers = [int(n) for n in model.hypernet.layer_indices]
    alpha = model.peft_config.lora_alpha
    return pack(factors, head_bias(model), lora_alpha=alpha, layers=layers)


def main(argv: Sequence[str] | None = None) -> None:
    """Encode every document once and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("checkpoint", "documents", "out"):
        parser.add_argument(name)
    parser.add_argument(
        "--trust-pickle", action="store_true", help="open the checkpoint without restriction: it can run code"
    )
    args = parser.parse_args(argv)
    trusted = args.trust_pickle
    state = torch.load(args.checkpoint, weights_only=False) if trusted else load_checkpoint(args.checkpoint)
    with open(args.documents, encoding="utf-8") as lines:
        texts = {row["id"]: row["document"] for row in map(json.loads, filter(str.strip, lines))}
    tensors, metadata = pack_documents(open_model(state), texts)
    save_file(tensors, args.out, metadata=metadata)


def _class(path: str) -> Any:
    """The class at a dotted path; None where the installed version of the package has none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None


if __name__ == "__main__":
    main()

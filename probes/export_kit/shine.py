"""Export SHINE's adapters: python shine.py CHECKPOINT documents.jsonl OUT.safetensors --repo SHINE --config YAML --base MODEL.

Run in SHINE's environment, with kit.py and script.py beside it.
CHECKPOINT is a folder with metanetwork.pth, metalora.pth and mem_tokens.pt,
which the repository's own loader opens (they are pickles). A [d_in, rank] and B [rank, d_out] have the scale folded in, so the
scale stored is 1; C, where the maps have biases, is added to the bias.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kit  # pyright: ignore
import script  # pyright: ignore
import torch

BLOCKS = {"attention": "self_attn", "mlp": "mlp"}


def updates(loradict: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """One document's factors by module path, from layer -> block -> module -> A [1, d_in, r], B [1, r, d_out], C [1, d_out]."""
    found: dict[str, Any] = {}
    for layer, blocks in loradict.items():
        for block, modules in blocks.items():
            for module, leaf in modules.items():
                path = f"model.layers.{layer}.{BLOCKS[block]}.{module}_proj"
                found[path] = (leaf["A"][0].T, leaf["B"][0].T)
                if leaf.get("C") is not None:
                    found[f"{path}.bias"] = leaf["C"][0]
    return found


def main() -> None:
    """Encode every document once and write the file."""
    parser = script.command_line(__doc__, "the repository, with metanetwork_family.py")
    parser.add_argument("--config", required=True, help="the YAML that the checkpoint was trained with")
    parser.add_argument("--base", required=True, help="the base model, a folder or a name")
    parser.add_argument("--longest", type=int, default=1550, help="tokens of a document that are read (default: 1550)")
    args = parser.parse_args()
    documents = kit.read_documents(args.documents)
    if os.path.exists(os.path.join(args.checkpoint, "ift_additional_metalora.pth")):
        raise ValueError(
            f"{args.checkpoint}: it has an additional metalora, which this script does not merge; merge it first"
        )
    sys.path.insert(0, str(Path(args.repo).resolve()))
    from metanetwork_family import Metanetwork  # pyright: ignore
    from omegaconf import OmegaConf  # pyright: ignore
    from transformers import AutoTokenizer  # pyright: ignore
    from utils.myinit import _import_class  # pyright: ignore
    from utils.mysaveload import load_checkpoint  # pyright: ignore

    cfg: Any = OmegaConf.load(args.config)
    kind = _import_class(cfg.model.get("metamodel_class_path", "LoraQwen.LoraQwen3ForCausalLM"))
    config = _import_class(cfg.model.get("config_class_path", "LoraQwen.Qwen3Config")).from_pretrained(args.base)
    cfg.hidden_size, cfg.num_layers, config.num_mem_token = config.hidden_size, config.num_hidden_layers, -1
    with torch.device("meta"):
        total = kind(config).lora_params_numel(cfg.model.lora_r)
    if cfg.metanetwork.type == "transformer":
        cfg.num_mem_token = total // (cfg.hidden_size * cfg.num_layers)
    config.num_mem_token = cfg.num_mem_token
    model = kind.from_pretrained(args.base, config=config, torch_dtype=torch.float32)
    model.reset_mem_tokens()
    network = Metanetwork(model, cfg, total)
    network, metalora, _ = load_checkpoint(network, args.checkpoint, args.device)
    network.eval()
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    questions, native = script.native_questions(documents, args.native), []

    @torch.no_grad()
    def factors() -> Iterator[dict[str, Any]]:
        for document in documents:
            # the method pads on the left to a fixed length; masked positions change nothing but rounding
            read = tokenizer(document["document"], truncation=True, max_length=args.longest, return_tensors="pt")
            loradict = network.generate_lora_dict(
                read.input_ids.to(args.device), read.attention_mask.to(args.device), metalora
            )
            if document["key"] in questions:
                text = questions[document["key"]]
                ids = tokenizer(text, return_tensors="pt").input_ids.to(args.device)
                asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "ignore_mem_token": True}
                native.append((document["key"], text, ids, network.metamodel(**asked, loradict=loradict).logits))
            yield updates(loradict)

    kit.write(
        args.out,
        documents,
        factors(),
        method="shine",
        scale=1.0,
        **script.gains_and_native(args.gains, native),
        base=args.base,
        settings={"checkpoint": Path(args.checkpoint).name, "longest": args.longest, "rank": int(cfg.model.lora_r)},
        progress=True,
    )


if __name__ == "__main__":
    script.run(main)

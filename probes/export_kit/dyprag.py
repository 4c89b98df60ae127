"""Export DyPRAG's adapters: python dyprag.py epoch_0.pt documents.jsonl OUT.safetensors --repo DyPRAG --base MODEL.

Run in DyPRAG's environment, with kit.py and script.py beside it.
DyPRAG adds B A without any scale, so the scale stored is 1 (its lora_alpha
acts nowhere at inference). Each document is encoded alone; the method itself averages the factors of several passages.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kit  # pyright: ignore
import script  # pyright: ignore
import torch

PREFIX = "base_model.model."
NAME = re.compile(r"projector\.(\w+)_(\d+)\.projector\.pre_A_linear\.weight")
LONGEST = 3000
"""Tokens of a passage that the method reads."""


def sizes(state: Mapping[str, torch.Tensor], hidden_size: int) -> dict[str, Any]:
    """Modules, layers, rank and width of the projector, from its weights' names and shapes. Raises ValueError for others."""
    named = {match[0]: match for match in map(NAME.fullmatch, state) if match}
    modules = list(dict.fromkeys(match[1] for match in named.values()))
    gated = next((name for name in named if "down_proj" not in name), None)
    if gated is None:
        raise ValueError("the checkpoint holds no projector of gate_proj or up_proj, so its rank is unknown")
    return {
        "module_list": modules,
        "layer_idx": sorted({int(match[2]) for match in named.values()}),
        "lora_rank": state[gated.replace("pre_A", "post_A")].shape[0] // hidden_size,
        "hidden_dim": state[gated].shape[0],
    }


def main() -> None:
    """Encode every document once and write the file."""
    parser = script.command_line(__doc__, "the repository, with src/projector.py")
    parser.add_argument("--base", required=True, help="the base model, a folder or a name")
    args = parser.parse_args()
    documents = kit.read_documents(args.documents)
    sys.path.insert(0, str(Path(args.repo).resolve() / "src"))
    from peft import LoraConfig, TaskType, get_peft_model  # pyright: ignore
    from projector import ParameterTranslator  # pyright: ignore
    from transformers import AutoConfig, AutoTokenizer  # pyright: ignore
    from utils import delta_inject, delta_remove, get_model_class  # pyright: ignore

    config, tokenizer = AutoConfig.from_pretrained(args.base), AutoTokenizer.from_pretrained(args.base)
    state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)["model_state_dict"]
    found = sizes(state, config.hidden_size)
    plain = get_model_class(config.model_type).from_pretrained(args.base, torch_dtype=torch.float32)
    wrapped = LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=found["module_list"], r=found["lora_rank"])
    model = get_peft_model(plain, wrapped).to(args.device).eval()
    projector = ParameterTranslator(input_dim=config.hidden_size, output_dim=config.intermediate_size, **found)
    projector.load_state_dict(state)
    projector.to(args.device).eval()
    questions, native = script.native_questions(documents, args.native), []

    @torch.no_grad()
    def factors() -> Iterator[dict[str, Any]]:
        for document in documents:
            ids = tokenizer(document["document"], truncation=True, max_length=LONGEST, return_tensors="pt").input_ids
            states = model(ids.to(args.device), output_hidden_states=True).hidden_states[-1]
            deltas = projector(states[:, -1, :])
            if document["key"] in questions:
                text = questions[document["key"]]
                asked = tokenizer(text, return_tensors="pt").input_ids
                delta_inject(model, deltas)
                native.append((document["key"], text, asked, model(asked.to(args.device)).logits))
                delta_remove(model, deltas)
            paths = [key[: -len(".lora_A.weight")] for key in deltas if key.endswith(".lora_A.weight")]
            yield {
                path[len(PREFIX) :]: (deltas[f"{path}.lora_A.weight"], deltas[f"{path}.lora_B.weight"])
                for path in paths
            }

    kit.write(
        args.out,
        documents,
        factors(),
        method="dyprag",
        scale=1.0,
        **script.gains_and_native(args.gains, native),
        base=args.base,
        settings={"checkpoint": Path(args.checkpoint).name, "rank": found["lora_rank"], "longest": LONGEST},
        progress=True,
    )


if __name__ == "__main__":
    script.run(main)

"""DyPRAG: its own projector, trained on PRAG's adapters, and its own model's logits as the oracle.

    python dyprag.py REPOSITORY ROOT MODEL documents.jsonl OUT --prag FOLDER --kit KIT [--steps 300]

Run in that repository's environment. ROOT holds the model folder MODEL, whose name must contain "llama": the repository looks.
`--prag`: a folder with an adapter folder per document key. `--steps`: steps on the part of its loss that compares the
projector's factors with PRAG's (times 100, as there); the other two parts, which run the model, are left out for their cost.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from pathlib import Path

import torch
import torch.nn.functional as F
from native import NativeLogits, documents
from safetensors.torch import load_file, save_file

RANK, ALPHA, HIDDEN = 2, 32, 32


def main() -> None:
    """Train the projector, write its adapters and the method's own logits."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("repository", "root"):
        parser.add_argument(name, type=Path)
    parser.add_argument("model")
    for name in ("documents", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--prag", type=Path, required=True)
    parser.add_argument("--kit", type=Path, required=True, help="folder with kit.py")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    out, texts = args.out.resolve(), list(documents(args.documents))
    prag = args.prag.resolve()
    sys.path[:0] = [str(args.repository.resolve() / "src"), str(args.kit.resolve())]
    place = types.ModuleType("root_dir_path")
    place.ROOT_DIR = str(args.root.resolve())  # type: ignore[attr-defined]
    sys.modules["root_dir_path"] = place
    os.chdir(args.root)
    import kit  # pyright: ignore[reportMissingImports]
    from peft import LoraConfig, TaskType, get_peft_model
    from projector import ParameterTranslator  # pyright: ignore[reportMissingImports]
    from utils import delta_inject, delta_remove, get_model  # pyright: ignore[reportMissingImports]

    base, tokenizer, _ = get_model(args.model)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM, target_modules=["down_proj", "gate_proj", "up_proj"], inference_mode=False, r=RANK,
        lora_alpha=ALPHA, lora_dropout=0,
    )  # fmt: skip
    model = get_peft_model(base, config).eval()
    torch.manual_seed(0)
    shape = model.config
    projector = ParameterTranslator(
        ["down_proj", "up_proj", "gate_proj"], list(range(shape.num_hidden_layers)), shape.hidden_size,
        shape.intermediate_size, RANK, HIDDEN,
    )  # fmt: skip

    embeddings = {}
    with torch.no_grad():
        for document in texts:
            ids = tokenizer(document["document"], return_tensors="pt").input_ids
            embeddings[document["key"]] = model(ids, output_hidden_states=True).hidden_states[-1][:, -1, :]
    targets = {
        d["key"]: load_file(prag / d["key"] / "adapter_model.safetensors") for d in texts if (prag / d["key"]).is_dir()
    }
    print(f"{len(texts)} documents, PRAG's adapters of {len(targets)}")
    optimiser = torch.optim.AdamW(projector.parameters(), lr=args.lr)
    keys = list(targets)
    for step in range(args.steps):
        key = keys[step % len(keys)]
        made = projector(embeddings[key])
        loss = 100 * sum(F.mse_loss(made[name], targets[key][name]) for name in made)
        optimiser.zero_grad()
        loss.backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimiser.step()
        if step % max(1, args.steps // 10) == 0 or step == args.steps - 1:
            nothing = 100 * sum(t.square().mean() for t in targets[key].values())
            print(f"step {step}: loss {loss.item():.4f}; of factors that are zero {nothing:.4f}", flush=True)  # pyright: ignore[reportAttributeAccessIssue]
    projector.eval()
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"model_state_dict": projector.state_dict()}, out / "epoch_0.pt")

    native = NativeLogits(lambda text: tokenizer(text).input_ids, lambda ids: model(ids).logits)

    def factors():
        for document in texts:
            with torch.no_grad():
                made = projector(embeddings[document["key"]])
            folder = out / "peft" / document["key"]
            folder.mkdir(parents=True, exist_ok=True)
            save_file(
                {name: tensor.detach().contiguous() for name, tensor in made.items()},
                folder / "adapter_model.safetensors",
            )
            config.save_pretrained(str(folder))
            delta_inject(model, made)
            native.ask(document)
            delta_remove(model, made)
            yield {
                name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): (
                    tensor.detach(), made[name.replace("lora_A", "lora_B")].detach()
                )
                for name, tensor in made.items()
                if "lora_A" in name
            }  # fmt: skip

    # its forward adds B A as it is: lora_alpha / rank is in its configuration and never applied
    kit.write(out / "dyprag.safetensors", texts, factors(), method="dyprag", scale=1.0, native=native.stored())
    native.write(out / "native.safetensors")


if __name__ == "__main__":
    main()

"""Text-to-LoRA with random weights: its own generate_lora.py once per document, and its own hooks' logits as the oracle.

    python text_to_lora.py REPOSITORY BASE documents.jsonl OUT

Run in that repository's environment. BASE is a model folder that the environment's transformers opens. Patched from outside:
the base is opened in float32 with the library's own attention instead of bfloat16 with flash attention, and a chat template
is put where the code looks for one. Imported modules that only training needs may be absent: they are replaced by empty ones.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import runpy
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import torch
import yaml
from native import NativeLogits, documents

TRAINING_ONLY = ("wandb", "inflect", "torchmetrics", "torchmetrics.text", "torchmetrics.text.rouge", "pandas")
RANK, ALPHA = 8, 16


def stand_in_for_training_only() -> None:
    """Empty modules for what generating an adapter does not use; transformers looks for some of them when it is imported."""
    import peft  # noqa: F401

    for name in TRAINING_ONLY:
        if name.split(".")[0] in sys.modules or importlib.util.find_spec(name.split(".")[0]) is None:
            module = sys.modules.setdefault(name, types.ModuleType(name))
            module.__getattr__ = lambda attribute: type(attribute, (), {})  # type: ignore[method-assign]


def checkpoint(folder: Path, base: str, seed: int) -> None:
    """A checkpoint in the repository's own form whose network has random weights, heads included."""
    from hyper_llm_modulator import hyper_modulator  # pyright: ignore[reportMissingImports]
    from hyper_llm_modulator.utils import get_layers  # pyright: ignore[reportMissingImports]
    from hyper_llm_modulator.utils.model_loading import get_model, get_peft_config  # pyright: ignore[reportMissingImports]

    settings = {
        "training_task": "sft", "model_dir": base, "emb_model": "", "mt_lora_path": None, "pred_z_score": None,
        "use_one_hot_task_emb": False, "shared_AB_head": False, "autoreg_gen": False, "learnable_pos_emb": False,
        "learnable_AB_offset": False, "hypernet_latent_size": 128, "head_in_size": 512, "train_ds_names": [],
        "target_modules": ["q_proj", "v_proj"],
    }  # fmt: skip
    config = get_peft_config(base, "lora", target_modules=settings["target_modules"], r=RANK, lora_alpha=ALPHA)
    model = get_model(base, False, False, peft_config=config, device="cpu")
    torch.manual_seed(seed)
    layers = torch.arange(len(get_layers(model)))
    network = hyper_modulator.create_hypermod(
        argparse.Namespace(**settings), "lora", "cpu", model, layers, model.config.hidden_size
    )
    for head in network.heads.values():
        torch.nn.init.normal_(head.weight, std=0.02)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "hypermod.pt")
    (folder / "args.yaml").write_text(yaml.safe_dump(settings))
    config.save_pretrained(folder)


def main() -> None:
    """Make a checkpoint, an adapter folder per document, and the method's own logits."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("repository", "base", "documents", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--limit", type=int, help="documents at most")
    args = parser.parse_args()
    out, texts = args.out.resolve(), list(documents(args.documents, args.limit))
    base = args.base.resolve()
    repository = args.repository.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)  # the code reads chat templates relative to the working directory
    sys.path.insert(0, str(repository / "src"))
    stand_in_for_training_only()
    from hyper_llm_modulator import hooks  # pyright: ignore[reportMissingImports]
    from hyper_llm_modulator.utils import model_loading  # pyright: ignore[reportMissingImports]

    get_model = model_loading.get_model
    load = model_loading.AutoModelForCausalLM.from_pretrained

    def on_the_cpu(**settings: Any) -> Any:
        settings.pop("attn_implementation", None)
        return load(**(settings | {"torch_dtype": torch.float32}))

    model_loading.AutoModelForCausalLM = types.SimpleNamespace(from_pretrained=on_the_cpu)
    template = Path(f"chat_templates/{base}/chat_template.jinja".replace("//", "/"))
    template.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(base / "chat_template.jinja", template)
    folder = out / "hypermod"  # its loader cuts the path at the word checkpoint
    checkpoint(folder, str(base), seed=0)

    from hyper_llm_modulator import hyper_modulator  # pyright: ignore[reportMissingImports]
    from hyper_llm_modulator.utils import get_layers  # pyright: ignore[reportMissingImports]

    generated: dict[str, Path] = {}
    made: list[dict[str, torch.Tensor]] = []
    save = hyper_modulator.save_lora
    hyper_modulator.save_lora = lambda state, config, place: (made.append(state), save(state, config, place))
    for document in texts:
        sys.argv = ["generate_lora.py", str(folder), document["document"]]
        before = set(folder.glob("extras/user_generated/*"))
        runpy.run_path(str(repository / "scripts" / "generate_lora.py"), run_name="__main__")
        (generated[document["key"]],) = set(folder.glob("extras/user_generated/*")) - before
    (out / "map.json").write_text(json.dumps({key: place.name for key, place in generated.items()}, indent=1))

    plain = get_model(str(base), False, False, peft_config=None, device="cpu", model_kwargs={})
    tokenizer = model_loading.AutoTokenizer.from_pretrained(base)
    native = NativeLogits(lambda text: tokenizer(text).input_ids, lambda ids: plain(ids).logits)
    scaling = ALPHA / RANK**0.5
    layers = range(len(get_layers(plain)))
    for document, state in zip(texts, made, strict=True):
        handles = []
        for n in layers:
            for module in ("q_proj", "v_proj"):
                A, B = (
                    state[f"base_model.model.model.layers.{n}.self_attn.{module}.lora_{f}.weight"].T[None]
                    for f in ("A", "B")
                )
                handles += hooks.add_lora_hooks(plain, [module], [n], A, B, scaling, 0.0, False)
        native.ask(document)
        hooks.remove_hook_handles_(handles)
    native.write(out / "native.safetensors")


if __name__ == "__main__":
    main()

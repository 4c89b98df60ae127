"""Generative Adapter with random weights: its own network's adapters and its own model's logits as the oracle.

    python generative_adapter.py REPOSITORY BASE documents.jsonl OUT --kit KIT

Run in that repository's environment. The settings are those of the released checkpoint (rank 1,024, inner size 1,024, largest
rank 128, alpha 64, `o_proj`, SVD norm), the weights random; the checkpoint is written and opened by the repository's own
functions. Adapters go into a compact file, by the kit in the folder KIT, factored to their true rank, and as the method hands
them over into a layered file for `generative-adapter:`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from native import NativeLogits, documents
from safetensors.torch import save_file

SETTINGS = {
    "fastlora_r": 1024, "fastlora_inter_size": 1024, "fastlora_max_rank": 128, "fastlora_alpha": 64, "fastlora_dropout": 0.0,
    "fastlora_arch": "as", "fastlora_norm": "svd", "fastlora_init": "random", "fastlora_merge": "pre-norm-sum",
    "target_modules": ["o_proj"],
}  # fmt: skip


def main() -> None:
    """Make a checkpoint, the adapters and the method's own logits."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("repository", "base", "documents", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--limit", type=int, help="documents at most")
    parser.add_argument("--kit", type=Path, required=True, help="folder with kit.py")
    args = parser.parse_args()
    sys.path[:0] = [str(args.repository.resolve()), str(args.kit.resolve())]
    import kit  # pyright: ignore[reportMissingImports]
    from fastlora import model as fastlora  # pyright: ignore[reportMissingImports]
    from fastlora.config import FastLoraConfig  # pyright: ignore[reportMissingImports]
    from fastlora.eval_utils import fastlora_generate_adaptor  # pyright: ignore[reportMissingImports]
    from peft import mapping, peft_model
    from peft.config import PeftConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    peft_model.PEFT_TYPE_TO_MODEL_MAPPING.update({"FASTLORA": fastlora.FastLoraModel})  # pyright: ignore[reportAttributeAccessIssue]
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING.update({"FASTLORA": FastLoraConfig})  # pyright: ignore[reportArgumentType, reportCallIssue]
    peft_model.get_peft_model_state_dict = fastlora.get_peft_model_state_dict
    peft_model.set_peft_model_state_dict = fastlora.set_peft_model_state_dict

    def base() -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(args.base, torch_dtype=torch.float32, attn_implementation="sdpa")

    torch.manual_seed(0)
    config = FastLoraConfig(
        **SETTINGS, task_type="CAUSAL_LM", peft_type="FASTLORA", base_model_name_or_path=str(args.base)
    )
    fresh = fastlora.FastLoraModelForCausalLM(base(), config)
    for name, parameter in fresh.named_parameters():
        if "fastlora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.out / "checkpoint"
    fresh.save_pretrained(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    tokenizer.save_pretrained(str(folder))
    stored = PeftConfig.from_pretrained(str(folder))
    stored.task_type = "FAST_LORA_CAUSAL_LM"  # as its own loader does: PEFT then keeps the repository's class
    model = fastlora.FastLoraModelForCausalLM.from_pretrained(
        base(), str(folder), adapter_name="default", is_trainable=False, config=stored
    ).eval()

    now: dict = {}

    def run(ids: torch.Tensor) -> torch.Tensor:
        # attention_mask is read by the layers that it wraps; past keys would be reshaped, so none are asked for
        return model(
            input_ids=ids, attention_mask=torch.ones_like(ids), fastlora_weights=now["weights"], use_cache=False
        ).logits

    native = NativeLogits(lambda text: tokenizer(text).input_ids, run)
    again, texts = [], list(documents(args.documents, args.limit))
    layered: dict[str, torch.Tensor] = {}

    def factors():
        for document in texts:
            with torch.no_grad():
                now["weights"] = fastlora_generate_adaptor(model, tokenizer, document["document"], "concat", 1024)
                ids = torch.tensor([tokenizer(document["questions"][0]["text"]).input_ids])
                first = run(ids)[0, -1]
                torch.manual_seed(0)  # as the kit's own script does, so that both export the same factors
                now["weights"] = fastlora_generate_adaptor(model, tokenizer, document["document"], "concat", 1024)
                again.append((run(ids)[0, -1] - first).abs().max().item())
            native.ask(document)
            layers = sorted(now["weights"], key=lambda name: int(name.split("layers.")[1].split(".")[0]))
            for key, factor in (("A", "lora_a"), ("B", "lora_b")):
                stacked = torch.stack([now["weights"][name][factor][0] for name in layers])
                layered[f"documents/{document['key']}/o_proj/{key}"] = stacked.clone().contiguous()
            yield {name: of_true_rank(w["lora_a"][0], w["lora_b"][0]) for name, w in now["weights"].items()}

    scale = SETTINGS["fastlora_alpha"] / SETTINGS["fastlora_r"]
    kit.write(
        args.out / "ga.safetensors", texts, factors(), method="generative-adapter", scale=scale, native=native.stored()
    )
    save_file(layered, args.out / "adapters.safetensors", {"lora_alpha": str(SETTINGS["fastlora_alpha"])})
    print(f"the same document made twice: logits differ by {min(again):.2g} to {max(again):.2g} nats")
    native.write(args.out / "native.safetensors")


def of_true_rank(A: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same product B A in as many ranks as A [rank, d_in] really has, at most 128: by A's singular values."""
    U, S, V = torch.linalg.svd(A.clone(), full_matrices=False)
    rank = min(SETTINGS["fastlora_max_rank"], int((1e-6 * S[0] < S).sum()))
    return V[:rank].contiguous(), (B.clone() @ U[:, :rank] * S[:rank]).contiguous()


if __name__ == "__main__":
    main()

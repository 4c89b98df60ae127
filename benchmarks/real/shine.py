"""SHINE with random weights over a Llama base: its own network's adapters and its own model's logits as the oracle.

    python shine.py REPOSITORY BASE documents.jsonl OUT --kit KIT

Run in that repository's environment. Patched from outside: its model class is Qwen3's with LoRA; the norms of queries and keys,
which a Llama model does not have, are replaced by the identity, so that the class holds the base's own weights exactly.
Adapters go into a compact file, by the kit in the folder KIT; the checkpoint is written by the repository's own function.
With `--float64` the same factors are also asked in float64 on the method's model, into native64.safetensors (`in_float64.py`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from native import NativeLogits, documents, in_float64

RANK, META_RANK = 6, 8  # its code needs the number of a layer's factors to be a multiple of the hidden size


def main() -> None:
    """Make a checkpoint, the adapters and the method's own logits."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("repository", "base", "documents", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--limit", type=int, help="documents at most")
    parser.add_argument("--kit", type=Path, required=True, help="folder with kit.py")
    parser.add_argument("--float64", action="store_true", help="ask the method's model in float64 too")
    args = parser.parse_args()
    sys.path[:0] = [str(args.repository.resolve()), str(args.kit.resolve())]
    import kit  # pyright: ignore[reportMissingImports]
    import LoraQwen  # pyright: ignore[reportMissingImports]
    from metanetwork_family import Metanetwork  # pyright: ignore[reportMissingImports]
    from omegaconf import OmegaConf  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from utils.mysaveload import save_checkpoint  # pyright: ignore[reportMissingImports]

    tokenizer = AutoTokenizer.from_pretrained(args.base)
    base = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32).eval()
    llama = base.config
    same = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "max_position_embeddings",
            "tie_word_embeddings", "attention_bias", "pad_token_id")  # fmt: skip
    config = LoraQwen.Qwen3Config(**{name: getattr(llama, name) for name in same})
    config.num_mem_token = -1
    with torch.device("meta"):
        factors = LoraQwen.LoraQwen3ForCausalLM(config).lora_params_numel(RANK)
    config.num_mem_token, rest = divmod(factors, config.hidden_size * config.num_hidden_layers)
    assert rest == 0, f"rank {RANK}: {factors} factors are no multiple of the hidden size"
    torch.manual_seed(0)
    model = LoraQwen.LoraQwen3ForCausalLM(config).eval()
    for layer in model.model.layers:
        layer.self_attn.q_norm = layer.self_attn.k_norm = torch.nn.Identity()
    missing, unexpected = model.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected, unexpected
    assert set(missing) == {"model.mem_tokens"}, missing
    encoder = {"d_model": config.hidden_size, "nhead": 8, "dim_feedforward": 1024, "dropout": 0, "activation": "gelu",
               "layer_norm_eps": 1e-5, "batch_first": True, "norm_first": False, "bias": True}  # fmt: skip
    cfg = OmegaConf.create({
        "hidden_size": config.hidden_size, "num_layers": config.num_hidden_layers, "num_mem_token": config.num_mem_token,
        "model": {"lora_r": RANK, "metalora_r": META_RANK},
        "metanetwork": {"type": "transformer", "method": "rl", "transformer_cfg": {
            "encoder_cfg": encoder, "couple_encoder_cfg": encoder, "layer_transformer_first": True, "mean_pool_size": 1,
            "num_layers": 2, "couple_num_layers": 0, "scale": 0.001}},
    })  # fmt: skip
    network = Metanetwork(model, cfg, model.lora_params_numel(RANK)).eval()
    torch.nn.init.normal_(model.model.mem_tokens, std=0.1)
    for name in ("layer_pe", "token_pe"):
        torch.nn.init.normal_(getattr(network.metanetwork, name), std=0.1)
    metalora = model.init_lora_dict(META_RANK, scale=0.001, device="cpu")
    for layer in metalora.values():
        for block in layer.values():
            for update in block.values():
                torch.nn.init.normal_(update["B"], std=0.03)
    args.out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network, str(args.out / "checkpoint"), metalora)
    OmegaConf.save(cfg, args.out / "checkpoint" / "config.yaml")

    now: dict = {}

    def run(ids: torch.Tensor) -> torch.Tensor:
        return model(
            input_ids=ids, attention_mask=torch.ones_like(ids), loradict=now["lora"], ignore_mem_token=True
        ).logits

    def run64(ids: torch.Tensor) -> torch.Tensor:
        factors = {
            n: {
                block: {
                    m: {side: f if f is None else f.double() for side, f in update.items()}
                    for m, update in modules.items()
                }
                for block, modules in layer.items()
            }
            for n, layer in now["lora"].items()
        }
        return double(
            input_ids=ids, attention_mask=torch.ones_like(ids), loradict=factors, ignore_mem_token=True
        ).logits

    native = NativeLogits(lambda text: tokenizer(text).input_ids, run)
    double: Any = in_float64(model) if args.float64 else None
    native64 = NativeLogits(native.tokenize, run64)
    texts, gaps = list(documents(args.documents, args.limit)), []

    def factors():
        for document in texts:
            read = tokenizer(document["document"], return_tensors="pt")
            with torch.no_grad():
                now["lora"] = network.generate_lora_dict(read.input_ids, read.attention_mask, metalora)
                gaps.append(
                    (model(input_ids=read.input_ids, ignore_mem_token=True).logits - base(read.input_ids).logits)
                    .abs()
                    .max()
                    .item()
                )
            native.ask(document)
            if args.float64:
                native64.ask(document)
            yield {
                f"model.layers.{n}.{place}.{module}_proj": (
                    update["A"][0].detach().T.contiguous(), update["B"][0].detach().T.contiguous()
                )
                for n, layer in now["lora"].items()
                for block, place in (("attention", "self_attn"), ("mlp", "mlp"))
                for module, update in layer[block].items()
            }  # fmt: skip

    kit.write(args.out / "shine.safetensors", texts, factors(), method="shine", scale=1.0, native=native.stored())
    print(f"the repository's model without an adapter against the base: {max(gaps):.2g} nats at most")
    native.write(args.out / "native.safetensors")
    if args.float64:
        native64.write(args.out / "native64.safetensors")


if __name__ == "__main__":
    main()

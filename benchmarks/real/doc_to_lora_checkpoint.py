"""A Doc-to-LoRA checkpoint with random weights, made by the method's own classes and saved as its training saves it.

    ENV/bin/python benchmarks/real/doc_to_lora_checkpoint.py BASE OUT.bin [--name NAME]

Run in the method's environment, on the CPU. BASE is a folder; with NAME (google/gemma-2-2b-it) the checkpoint names that base,
for which the method has a chat template, and BASE stands in for it. Rank 8 on down_proj and lora_alpha 2 * 8^1.5, as released;
the hypernetwork is smaller. B's scalers and the head bias begin at 0 and are drawn here: at 0 an adapter changes nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

GLUE = Path(__file__).resolve().parents[2] / "probes" / "export_kit" / "doc_to_lora.py"


def glue() -> Any:
    """The export kit's script, whose way of running on the CPU is used here too."""
    spec = importlib.util.spec_from_file_location("doc_to_lora_glue", GLUE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Write the checkpoint; prints its size."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", help="the base that the checkpoint names")
    args = parser.parse_args()
    base, out, script = args.base.resolve(), args.out.resolve(), glue()
    named = {"base_model_name_or_path": args.name or str(base)}
    script.run_anywhere(torch.device("cpu"), torch.float32, torch.float32, False)
    with (
        tempfile.TemporaryDirectory() as scratch,
        script.at_repository(script.repository_of(), named, base if args.name else None, scratch),
    ):
        state = build(named["base_model_name_or_path"]).state_dict()
    torch.save(state, out)
    print(
        f"{out.name}: {out.stat().st_size / 1e6:.0f} MB, {sum(isinstance(v, torch.Tensor) for v in state.values())} tensors"
    )
    return 0


def build(name: str) -> Any:
    """The method's model over a base, its hypernetwork's weights random."""
    from ctx_to_lora import configs, model_loading  # pyright: ignore[reportMissingImports]
    from ctx_to_lora.modeling import hypernet  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    lora = model_loading.get_lora_config(name, lora_r=8, lora_dropout=0.0, target_modules=["down_proj"])
    base = hypernet.get_model(name, train=False, requires_grad=False, use_flash_attn=False, peft_config=lora)
    encoder = configs.CtxEncoderArguments(ctx_encoder_type="per_layer_activations")
    encoder.layer_idx = base.config.num_hidden_layers // 4
    pooling = configs.AggregatorArguments(n_latent_queries=8, num_blocks=2)
    sizes = configs.HypernetArguments(latent_size=128, per_rank_gen=True, per_layer_processing=True)
    settings = hypernet.get_hypernet_config(base, base.config, sizes, pooling, encoder)
    model = hypernet.ModulatedPretrainedModel(base, settings, encoder)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.hypernet.target_modules:
            scaler, bias = model.hypernet.scaler_B[module], model.hypernet.bias_B[module]
            scaler.copy_(0.5 + torch.rand(scaler.shape, generator=draw))
            bias.copy_(0.02 * torch.randn(bias.shape, generator=draw))
    return model


if __name__ == "__main__":
    sys.exit(main())

"""A package with the names, calls and shapes of Doc-to-LoRA's that its glue uses, written to a folder; the smallest that runs.

Its adapted model is a loop by hand: what a map puts out, plus lora_alpha times x A^T B, A and B rank first. Factors depend on the
document's tokens, so another template or another base gives other adapters.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from override_gap.margins.items.item import Item

ALPHA, RANK, LAYERS, WIDTH = 2.0, 2, 3, 32
NAME = "maker/tiny"
TEMPLATE = (  # of the method's repository; the model's own is another
    "{% for m in messages %}\n    {{ '<<' + m.role + '>>' + m.content + '<<end>>' }}{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<<assistant>>' }}{% endif %}"
)
OWN_TEMPLATE = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}"

FILES = {
    "configs": """
from dataclasses import dataclass
@dataclass
class CtxEncoderArguments:
    quantize_ctx_encoder: bool = False
""",
    "unlisted": """
class Unlisted:
    pass
""",
    "model_loading": """
import os
from types import SimpleNamespace
def get_model(name, train, requires_grad, use_flash_attn=True, peft_config=None, use_q_lora=False, device="cuda", dtype="bf16"):
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device)
    if peft_config is not None:
        from peft import get_peft_model
        model = get_peft_model(model, peft_config)
        model.disable_adapter_layers()
    model.name_or_path = name
    return model
def get_tokenizer(name):
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(name)
    if os.path.exists(f"chat_templates/{name}.jinja"):
        tokenizer.chat_template = open(f"chat_templates/{name}.jinja").read().replace("    ", "").replace("\\n", "")
    return tokenizer
""",
    "data/processing": """
def tokenize_ctx_text(samples, tokenizer):
    turns = [[{"role": "user", "content": text.strip()}] for text in samples["context"]]
    texts = [tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]
    return {"ctx_ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]}
""",
    "modeling/idefics2": """
class Idefics2PreTrainedModel:
    pass
""",
    "modeling/lora_merger": """
import torch
def combine_lora(generated_loras, n_chunks, lora_bias=None):
    assert n_chunks.tolist() == [1]
    return {
        m: {s: torch.cat([f[s], *([lora_bias[m][s][None]] if lora_bias else [])], 2) for s in ("A", "B")}
        for m, f in generated_loras.items()
    }
""",
    "modeling/hypernet": """
from dataclasses import dataclass
from types import SimpleNamespace
import torch
from ctx_to_lora.model_loading import get_model
from ctx_to_lora.modeling.lora_merger import combine_lora
@dataclass
class HypernetConfig:
    lora_config: object
    layer_indices: torch.Tensor
    use_bias: bool = True
class ModulatedPretrainedModel:
    device = torch.device("cpu")
    @classmethod
    def from_state_dict(cls, state, train=True, use_sequence_packing=True, use_flash_attn=True):
        self, config, name = cls(), state["hypernet_config"], state["base_model_name_or_path"]
        assert not (train or use_sequence_packing or use_flash_attn)
        self.peft_config = config.lora_config
        self.base_model = get_model(name, train=train, requires_grad=False, peft_config=config.lora_config)
        self.ctx_encoder = SimpleNamespace(base_model=get_model(name, train=train, requires_grad=False))
        self.ctx_encoder.config = self.ctx_encoder.base_model.config
        bias = {"down_proj": {s: state[f"bias_{s}.down_proj"] for s in "AB"}}
        self.hypernet = SimpleNamespace(config=config, layer_indices=config.layer_indices, get_head_bias=lambda: bias)
        return self
    def eval(self):
        return self
    def _internalize_from_ids(self, ids):
        layers, width = len(self.hypernet.layer_indices), self.ctx_encoder.config.hidden_size
        state = self.ctx_encoder.base_model.get_input_embeddings().weight[ids[0]].mean(0)
        draw = torch.Generator().manual_seed(int(1e6 * state.abs().sum()))
        A, B = (torch.randn(1, layers, self.peft_config.r, width, generator=draw) * 0.3 for _ in range(2))
        self.generated_loras = {"down_proj": {"A": A, "B": B}}
    def __call__(self, ctx_ids, ctx_attn_mask, n_ctx_chunks, input_ids):
        self._internalize_from_ids(ctx_ids)
        sides = combine_lora(self.generated_loras, n_ctx_chunks, lora_bias=self.hypernet.get_head_bias())["down_proj"]
        def adds(layer):
            def hook(module, args, out):
                for A, B in zip(sides["A"][0, layer], sides["B"][0, layer]):
                    out = out + self.peft_config.lora_alpha * (args[0] @ A)[..., None] * B
                return out
            return hook
        maps = [layer.mlp.down_proj for layer in self.base_model.base_model.model.model.layers]
        hooks = [part.register_forward_hook(adds(n)) for n, part in enumerate(maps)]
        output = self.base_model(input_ids=input_ids)
        for hook in hooks:
            hook.remove()
        return output
""",
}


def tokenizer_for(items: list[Item]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the items' words, with a chat template of its own."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([f"{item.document} {item.question} {item.answer}" for item in items], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", chat_template=OWN_TEMPLATE)


def write_base(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Path:
    """A random Llama whose down projections are square, so that a transposed one fits."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2,
        max_position_embeddings=256, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_package(folder: Path) -> Path:
    """The method's repository: `src/ctx_to_lora` and `chat_templates`."""
    for name, text in FILES.items():
        file = folder / "src" / "ctx_to_lora" / f"{name}.py"
        for parent in (file.parent, folder / "src" / "ctx_to_lora"):
            parent.mkdir(parents=True, exist_ok=True)
            (parent / "__init__.py").touch()
        file.write_text(text)
    template = folder / "chat_templates" / f"{NAME}.jinja"
    template.parent.mkdir(parents=True)
    template.write_text(TEMPLATE)
    return folder


def write_checkpoint(repository: Path, file: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Path:
    """A checkpoint as the method saves it, its classes those of the package in `repository`."""
    monkeypatch.syspath_prepend(repository / "src")
    from ctx_to_lora.configs import CtxEncoderArguments  # pyright: ignore[reportMissingImports]
    from ctx_to_lora.modeling.hypernet import HypernetConfig  # pyright: ignore[reportMissingImports]

    draw = torch.Generator().manual_seed(7)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["down_proj"], task_type="CAUSAL_LM")  # type: ignore[arg-type]
    state = {
        **{f"bias_{side}.down_proj": torch.randn(LAYERS, RANK, WIDTH, generator=draw) * 0.3 for side in "AB"},
        "base_model_name_or_path": NAME,
        "hypernet_config": HypernetConfig(lora, torch.arange(LAYERS)),
        "ctx_encoder_args": CtxEncoderArguments(),
        **more,
    }
    torch.save(state, file)
    forget_package()
    return file


def forget_package() -> None:
    """Import the package anew when it is next asked for."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ctx_to_lora"]:
        del sys.modules[name]

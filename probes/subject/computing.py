"""What decides a model's numbers beside its weights: the code it runs, its generation settings, attention, torch's modes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from override_gap.probes.source_hash import source_hash

#: Whose code is named by its version or hashed anyway.
KNOWN = frozenset(
    {"torch", "transformers", "transformer_lens", "tokenizers", "accelerate", "override_gap", "jaxtyping", "beartype"}
)
#: Where transformers copies the Python that comes with a model, and imports it from.
REMOTE = "transformers_modules"
#: Packages whose kernels transformers takes where they are installed.
KERNELS = ("flash-attn", "flash-linear-attention", "causal-conv1d", "mamba-ssm", "kernels", "bitsandbytes", "xformers")
#: Settings of torch that change results by more than the order of a sum.
SWITCHES = (
    "backends.fp32_precision",
    "backends.cuda.matmul.fp32_precision",
    "backends.cudnn.fp32_precision",
    "backends.mkldnn.fp32_precision",
    "backends.mkldnn.matmul.fp32_precision",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_accumulation",
)
#: The same from outside the process: a variable counts where it is set to something else than its default.
VARIABLES = {
    "NVIDIA_TF32_OVERRIDE": "",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "0",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "DNNL_DEFAULT_FPMATH_MODE": "STRICT",
}
#: Of a tokenizer, what its backend does not hold.
TOKENIZER = ("clean_up_tokenization_spaces", "split_special_tokens", "add_bos_token", "add_eos_token", "padding_side")


def model_facts(model: Any, tokenizer: Any) -> dict[str, Any]:
    """What of a model and its tokenizer decides numbers and is not in `subject_fingerprint`, as JSON.

    `code`: SHA-256 of the Python of every class and hook that is not of a library whose version a run names, by module; a
    model's own (`trust_remote_code`) and what it imports from its folder. `generation`: SHA-256 of the generation settings.
    `attention`: the implementations in use.
    """
    generation = getattr(model, "generation_config", None)
    settings = {} if generation is None else generation.to_dict()
    settings = {name: value for name, value in settings.items() if name != "transformers_version"}
    return {
        "code": code_of(model, tokenizer),
        "generation": _hash(settings),
        "attention": sorted(set(_implementations(model.config))),
        "tokenizer": {
            name: value for name in TOKENIZER if (value := _plain(getattr(tokenizer, name, None))) is not None
        },
    }


def process_facts() -> dict[str, Any]:
    """What of this process decides numbers: torch's modes and the variables that set them, and installed kernels, as JSON."""
    modes: dict[str, Any] = {name: _mode(name) for name in SWITCHES}
    modes |= {
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            modes[f"autocast_{device}"] = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    variables = {
        name: value
        for name, default in VARIABLES.items()
        if (value := os.environ.get(name, default)).upper() not in ("", default)
    }
    return {"torch": modes, "environment": variables, "kernels": _kernels()}


def code_of(model: Any, tokenizer: Any) -> dict[str, str]:
    """SHA-256 of the code that a live model and its tokenizer run, by module, leaving out that of KNOWN libraries."""
    hashes: dict[str, str] = {}
    for thing in _code(model, tokenizer):
        module = str(getattr(thing, "__module__", None) or "")
        top = module.partition(".")[0]
        if top in KNOWN or top in sys.stdlib_module_names or not top:
            continue
        # what transformers copies lies in a folder named by a hash; the hash of the content stands here
        name = module.rpartition(".")[2] if top == REMOTE else module if top == "__main__" else top
        if name not in hashes:
            found = remote_hash(module, model.config.name_or_path) if top == REMOTE else source_hash(thing)
            hashes |= {} if found is None else {name: found}
    return dict(sorted(hashes.items()))


def remote_hash(module: str, folder: str = "") -> str | None:
    """SHA-256 over the files of a module that came with a model: its own, and those of its folder that it imports.

    `folder`: where the model lies; what was imported from there by other means counts as well.
    """
    from transformers.dynamic_module_utils import get_relative_import_files

    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    own = Path(file).parent
    parts = {os.path.relpath(part, own): Path(part) for part in (file, *get_relative_import_files(file))}
    if folder and Path(folder).is_dir():
        loaded = [
            Path(name) for name in {getattr(other, "__file__", None) for other in [*sys.modules.values()]} if name
        ]
        parts |= {f"{part.relative_to(folder)}": part for part in loaded if part.is_relative_to(folder)}
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        if part.is_file():
            digest.update(f"{name}\0".encode() + hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()


def _code(model: Any, tokenizer: Any) -> Iterator[Any]:
    """Every class that a model is made of, with those that these extend, and the functions put over or hooked to its modules."""
    classes = dict.fromkeys(type(module) for module in model.modules())
    for owner in (*classes, type(model.config), type(tokenizer)):
        yield from owner.__mro__
    for module in model.modules():
        hooks = [
            hook for kind in ("_forward_hooks", "_forward_pre_hooks") for hook in vars(module).get(kind, {}).values()
        ]
        for function in (vars(module).get("forward"), *hooks):
            while isinstance(function, functools.partial):
                function = function.func
            if function is not None:
                yield getattr(function, "__func__", function)


def _implementations(config: Any) -> Iterator[str]:
    """Which implementation of attention, and of experts, a configuration and those within it choose."""
    for name in ("_attn_implementation", "_experts_implementation"):
        chosen = getattr(config, name, None)
        if isinstance(chosen, str):
            yield f"{name.split('_')[1]}: {chosen}"
    for name in getattr(config, "sub_configs", None) or {}:
        inner = getattr(config, name, None)
        if inner is not None and inner is not config:
            yield from _implementations(inner)


def _mode(name: str) -> Any:
    """A setting of torch; None where this version has none of the name. What is not set counts as IEEE's."""
    value: Any = torch
    for part in name.split("."):
        value = getattr(value, part, None)
    return "ieee" if value == "none" else value


@cache
def _kernels() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in KERNELS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool | int) else None


def _hash(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()

"""Loading: a Subject from a name, a Hugging Face id, a folder or a GGUF file; device and dtype chosen if not given."""

from __future__ import annotations

import difflib
import weakref
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from override_gap.margins.items.item import ItemError
from override_gap.margins.scratch import scratch
from override_gap.probes.catalogue import SUBJECTS
from override_gap.probes.environment import home, quietly
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.constant_tensors import weights_left_over
from override_gap.probes.subject.devices import DeviceMap, DevicesError, named_tensors, spread_over_devices
from override_gap.probes.subject.file_checks import FileSizeError, check_claimed_sizes, check_gguf_sizes
from override_gap.probes.subject.folder_checks import check_folder, check_tokenizer_folder
from override_gap.probes.subject.from_hub import from_hub, hub_unreached
from override_gap.probes.subject.gguf_settings import apply_gguf_settings
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.smollm2_folder import ConvertedError, check_converted
from override_gap.probes.subject.tokens import without_length_warning


def choose_device(device: str = "auto") -> torch.device:
    """The device named; with auto CUDA, else MPS, else CPU. Raises SubjectError where the one named is absent or unknown."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as fault:
        raise SubjectError(
            f"--device {device!r} is not known to torch; use auto, cpu, cuda, cuda:N, mps or map"
        ) from fault
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise SubjectError(f"--device {device}: use auto, cpu, cuda, cuda:N, mps or map")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise SubjectError(f"--device {device}: torch sees no CUDA device here; use --device cpu or auto")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise SubjectError("--device mps: torch sees no MPS device here; use --device cpu or auto")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype named; with auto float32 on CPU and MPS, bfloat16 on CUDA. Raises SubjectError for an unknown name."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in known:
        raise SubjectError(f"--dtype {dtype!r}: need auto, {', '.join(known)}")
    return known[dtype]


def open_subject(spec: str, *, device: str = "auto", dtype: str = "auto", trust: bool = False) -> Subject:
    """Load and wrap a causal language model.

    With `device` "map" or "map:cpu=8GiB" it is spread over several devices, or over memory and disk. `spec` is a name of
    `catalogue.SUBJECTS`, a folder that `save_pretrained` wrote, a .gguf file, or a Hugging Face id. Weights are
    read from safetensors (or GGUF) alone; Python that comes with them is run only with `trust`. Raises SubjectError,
    whose message is one line.
    """
    try:
        spread = DeviceMap.parse(device)
    except DevicesError as fault:
        raise SubjectError(str(fault)) from fault
    first = choose_device(device) if spread is None else spread.first
    weights_dtype = choose_dtype(dtype, first)
    with quietly(), ExitStack() as outside:
        try:
            (where, extra), alone = _locate(spec, trust), ""
            # nothing that a folder's settings name is fetched, unless its Python is trusted, which may come from elsewhere
            outside.enter_context(nullcontext() if trust else hub_unreached())
            if "gguf_file" in extra:  # else the library would read an adapter or a tokenizer that lies beside it
                alone = outside.enter_context(scratch())
                (Path(alone) / extra["gguf_file"]).symlink_to((Path(where) / extra["gguf_file"]).absolute())
            model, tokenizer = _load(where, alone or where, extra, weights_dtype, trust, spread)
            if "gguf_file" in extra:
                model.config.name_or_path = tokenizer.name_or_path = str(Path(spec).parent)
        except SubjectError:
            raise
        except DevicesError as fault:
            raise SubjectError(f"{spec}: {fault}") from fault
        except FileSizeError as fault:
            raise SubjectError(f"{spec}: cannot be loaded: {fault}") from fault
        except Exception as fault:  # whatever the libraries raise on a damaged file (safetensors has its own type)
            raise SubjectError(_reason(spec, fault)) from fault
        return wrap(model if spread else model.to(first), tokenizer, spec if spec in SUBJECTS else Path(spec).name)


def _locate(spec: str, trust: bool) -> tuple[str, dict[str, Any]]:
    if not spec.strip():
        raise SubjectError("--subject is empty; need a name, a folder, a .gguf file or a Hugging Face id")
    if spec == "organism":
        from override_gap.probes.organism.load import load

        return str(load().model_folder), {}
    if spec == "smollm2":
        folder = home() / "smollm2"
        if not (folder / "model.safetensors").is_file():
            raise SubjectError(f"smollm2 is not in {folder}; run `make smollm2` once to fetch it (93 MB)")
        try:
            check_converted(folder)
        except ConvertedError as fault:
            raise SubjectError(str(fault)) from fault
        return str(folder), {}
    path = Path(spec)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise SubjectError(f"{path}: no such GGUF file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SubjectError(f"{path}: no config.json in this folder; need one that save_pretrained wrote")
        return str(path), {}
    if path.exists():
        raise SubjectError(f"{path}: a subject is a folder, a .gguf file or a Hugging Face id, not this file")
    if spec.count("/") > 1 or spec.startswith((".", "/", "~")):
        raise SubjectError(f"{spec}: no such folder")
    near = difflib.get_close_matches(spec, SUBJECTS, n=1)
    if near:
        raise SubjectError(f"unknown subject {spec!r}; did you mean {near[0]!r}? (`override-gap list subjects`)")
    return str(from_hub(spec, trust=trust)), {}


def _load(
    where: str, opened: str, extra: dict[str, Any], dtype: torch.dtype, trust: bool, spread: DeviceMap | None
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        MODEL_MAPPING_NAMES,
    )

    library: Any = AutoModelForCausalLM
    if not extra:
        check_folder(Path(where), trust=trust)
        check_claimed_sizes(Path(where))
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust)
        causal = {
            n
            for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
            for n in ([names] if isinstance(names, str) else names)
        }
        declared = config.architectures or []
        if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            # saved by AutoModel, without a head: whole where the unembedding is tied to the embedding, else it is missing
            causal |= {str(MODEL_MAPPING_NAMES.get(config.model_type))}
        if trust:  # a class of the folder's own
            causal |= {str(name).rpartition(".")[2] for name in (getattr(config, "auto_map", None) or {}).values()}
        if not causal & set(declared) and set(declared) & set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()):
            # a vision-language model is measured on text alone: its language model and head
            library, causal = AutoModelForImageTextToText, causal | set(declared)
        if config.is_encoder_decoder or (declared and not causal & set(declared)):
            raise SubjectError(f"{where}: {', '.join(declared) or config.model_type} is not a causal language model")
        extra = {"use_safetensors": True}
        if spread is not None:
            with torch.device("meta"):  # nothing is allocated
                skeleton = library.from_config(config, dtype=dtype, trust_remote_code=trust)
            extra["device_map"] = spread_over_devices(skeleton, spread, dtype)
    elif spread is not None:
        raise SubjectError(
            f"{where}: a GGUF file is converted when it is read and cannot be spread over devices; give a folder"
        )
    else:
        check_gguf_sizes(Path(where) / extra["gguf_file"])
    extra["trust_remote_code"] = trust
    # weights that the model stores otherwise than the file (experts, say) are written to disk anew, for the model's lifetime
    offloaded = None if spread is None else scratch()
    placed = {} if offloaded is None else {"offload_folder": offloaded.name}
    loaded: Any = library.from_pretrained(
        opened, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **placed, **extra
    )
    model, loading = loaded
    if offloaded is not None:
        weakref.finalize(model, offloaded.cleanup)
    if loading.get("unexpected_keys") and "gguf_file" not in extra:
        loading["unexpected_keys"] = weights_left_over(model, where, sorted(map(str, loading["unexpected_keys"])))
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if loading.get(kind):
            first, count = sorted(loading[kind], key=str)[0], len(loading[kind])
            if kind == "mismatched_keys":
                name, stored, needed = first
                first = f"{name} of shape {list(stored)} where the configuration needs {list(needed)}"
            problem = kind.removesuffix("_keys")
            raise SubjectError(f"{where}: {count} {problem} weights ({first} first), which would be random or dropped")
    model.config.architectures = [type(model).__name__]  # what is measured; a file may name its trunk alone, or nothing
    if not all(bool(tensor.isfinite().all()) for _, tensor in named_tensors(model)):
        raise SubjectError(f"{where}: its weights are not all finite numbers")
    if "gguf_file" in extra:
        apply_gguf_settings(model, Path(where) / extra["gguf_file"])
    tokens = {k: v for k, v in extra.items() if k in ("gguf_file", "trust_remote_code")}
    return model, without_length_warning(AutoTokenizer.from_pretrained(opened, **tokens))


def _reason(spec: str, fault: Exception) -> str:
    first = " ".join(str(fault).split())
    if "trust_remote_code" in first:
        return (
            f"{spec}: this model comes with Python code of its own, which is not run because it could do anything; read it, and "
            "if you trust it give --trust-remote-code"
        )
    if "couldn't connect" in first or "We couldn't" in first or "offline" in first.lower():
        return f"{spec}: no such folder here, and the Hugging Face hub cannot be reached; give a local folder or .gguf file"
    if "ignore_mismatched_sizes" in first:
        return f"{spec}: its weights have other shapes than its configuration states"
    return f"{spec}: cannot be loaded as a causal language model: {first[:240]}"


def open_tokenizer(spec: str) -> Any:
    """The tokenizer of a subject's folder, or of a named subject; no weights are read. Raises ItemError."""
    from transformers import AutoTokenizer

    from override_gap.probes.environment import home

    if spec == "organism":
        from override_gap.probes.organism.load import load

        folder = Path(load().model_folder)
    else:
        folder = home() / spec if spec == "smollm2" else Path(spec)
    if not folder.is_dir():
        near = difflib.get_close_matches(spec, ("organism", "smollm2"), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; need a folder that a tokenizer was saved in"
        raise ItemError(f"--tokenizer {spec}: no such folder{hint}")
    try:
        check_tokenizer_folder(folder)
        with hub_unreached():
            opened = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            return without_length_warning(opened)
    except SubjectError as fault:
        raise ItemError(f"--tokenizer {spec}: {fault}") from fault
    except Exception as fault:  # whatever the library raises on a folder that holds no tokenizer
        reason = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise ItemError(f"--tokenizer {spec}: no tokenizer can be read from this folder: {reason}") from fault

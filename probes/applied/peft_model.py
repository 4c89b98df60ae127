"""The adapter that a PeftModel carries: read as an audit would read its folder, and switched off while hooks stand in for it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.adapter_tree import WEIGHTS
from override_gap.probes.sources.peft_adapter import read_adapter
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.subject.live_model import LiveModel

SWITCH = "_disable_adapters"
"""Where PEFT's layers keep whether they act. Its own context manager would also make their factors trainable on leaving."""


def is_peft(model: Any) -> bool:
    """Whether a model is PEFT's wrapper around another."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


@contextmanager
def switched_off(model: Any) -> Iterator[None]:
    """PEFT's own adapters do not act inside the block; on leaving they are as they were. Raises AdapterError if merged."""
    layers = [module for module in model.modules() if hasattr(module, SWITCH)]
    if any(getattr(layer, "merged", False) is True for layer in layers):
        raise AdapterError("the PeftModel's adapter is merged into the weights: call unmerge_adapter() first")
    before = [getattr(layer, SWITCH) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, SWITCH, True)
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            setattr(layer, SWITCH, value)


def carried_adapter(model: Any, live: LiveModel) -> Adapter:
    """The one active adapter of a PeftModel. Raises AdapterError for what is read only from a folder, on the plain model."""
    from peft import get_peft_model_state_dict

    active = list(getattr(model, "active_adapters", []))
    if len(active) != 1:
        raise AdapterError(f"the PeftModel has {len(active)} active adapters; activate one, or give adapters=")
    name = active[0]
    config = model.peft_config[name].to_dict()
    whole = next((n for n in ("modules_to_save", "target_parameters") if config.get(n)), None)
    if config.get("bias", "none") != "none":
        whole = "bias"
    if whole is not None:
        raise AdapterError(
            f"the PeftModel's adapter {name!r} sets {whole}, which is in the base's own modules: give the adapter's folder as "
            "adapters=, on the model without it"
        )
    tensors = {
        key: value.detach().cpu().contiguous()
        for key, value in get_peft_model_state_dict(model, adapter_name=name).items()
    }
    contents = {CONFIG: json.dumps(config, default=sorted).encode(), WEIGHTS: safetensors.torch.save(tensors)}
    adapter = read_adapter(Path(f"adapter {name!r} of the PeftModel"), live, contents)
    for path, update in adapter.updates.items():
        scaling = getattr(_module(live, path), "scaling", {}).get(name)
        if (
            isinstance(update, LowRank)
            and scaling is not None
            and not math.isclose(scaling, update.scale, rel_tol=1e-6)
        ):
            raise AdapterError(
                f"{path}: PEFT's scaling is {scaling:g}, its configuration says {update.scale:g}: it was scaled after it was "
                "loaded; load it again, and give the gain as the policy"
            )
    return adapter


def _module(live: LiveModel, path: str) -> Any:
    try:
        return live.model.get_submodule(path)
    except AttributeError:
        return None

"""Devices: a model spread over several GPUs, or over memory and disk, by accelerate; weights read wherever they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Module path -> device, as accelerate writes it.
Placement = dict[str, str | int]
NO_MIXTURE = "TransformerLens cannot run a mixture of GPUs with memory or disk"


class DevicesError(ValueError):
    """A model that cannot be spread over these devices; the message says what to give instead."""


@dataclass(frozen=True)
class DeviceMap:
    """Several devices: `memory` is the bytes that may be used of each; None: as many as are free, on all there are."""

    memory: Mapping[str | int, int] | None

    @classmethod
    def parse(cls, spec: str) -> DeviceMap | None:
        """`map`, `map:cpu=8GiB` (memory, then disk) or `map:0=20GiB,1=20GiB` (GPUs by number); None for one device.

        Raises DevicesError.
        """
        if spec.partition(":")[0] != "map":
            return None
        need = f"--device {spec}: need map, map:cpu=8GiB (memory, then disk) or map:0=20GiB,1=20GiB (GPUs by number)"
        memory: dict[str | int, int] = {}
        for entry in spec.split(":", 1)[1].split(",") if spec != "map" else ():
            device, _, size = entry.partition("=")
            number = int(device) if device.isascii() and device.isdecimal() else device
            if number in memory or not (number == "cpu" or isinstance(number, int)):
                raise DevicesError(need)
            memory[number] = _bytes(size, need)
        gpus = [device for device in memory if isinstance(device, int)]
        if gpus and "cpu" in memory:
            raise DevicesError(f"--device {spec}: {NO_MIXTURE}; name GPUs, or cpu")
        if gpus and max(gpus) >= torch.cuda.device_count():
            raise DevicesError(f"--device {spec}: torch sees {torch.cuda.device_count()} CUDA devices here")
        return cls(memory or None)

    @property
    def first(self) -> torch.device:
        """The device of everything but the blocks, where inputs go."""
        gpus = (
            range(torch.cuda.device_count()) if self.memory is None else [n for n in self.memory if isinstance(n, int)]
        )
        return torch.device("cuda", min(gpus)) if gpus else torch.device("cpu")


def _bytes(size: str, need: str) -> int:
    from accelerate.utils import convert_file_size_to_int

    try:
        return convert_file_size_to_int(size)
    except (ValueError, OverflowError) as fault:  # an infinite number of bytes
        raise DevicesError(need) from fault


def spread_over_devices(skeleton: Any, spread: DeviceMap, dtype: torch.dtype) -> Placement:
    """Which device holds which module: accelerate spreads the blocks, everything else is on the first device.

    `skeleton` is the model on the meta device. Embedding, final norm and unembedding are never offloaded: margins read
    them outside any forward pass. Raises DevicesError where the first device is too small for that, or the GPUs together are.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes

    skeleton.tie_weights()
    # accelerate annotates sizes, devices and dtypes more narrowly than what it takes
    block_classes: Any = sorted(map(str, skeleton._no_split_modules or ()))
    any_dtype: Any = dtype
    names = [name for name, module in skeleton.named_modules() if type(module).__name__ in block_classes]
    list_paths = {name.rpartition(".")[0] for name in names}
    if len(list_paths) != 1 or len(names) != skeleton.config.get_text_config().num_hidden_layers:
        raise DevicesError(f"--device map: {type(skeleton).__name__} does not say which modules are its blocks")
    list_path = list_paths.pop()
    blocks = skeleton.get_submodule(list_path)
    memory: Any = _memory(blocks, spread.memory, block_classes, dtype)
    gpus = [device for device in memory if isinstance(device, int)]
    first = gpus[0] if gpus else "cpu"
    outside = (
        sum(p.numel() for n, p in skeleton.named_parameters() if not n.startswith(f"{list_path}.")) * dtype.itemsize
    )
    needed = outside + max(compute_module_sizes(block, dtype=any_dtype)[""] for block in blocks)
    if memory[first] < needed:
        raise DevicesError(
            f"--device map: {first} needs {needed:,} bytes for the embedding, the unembedding and one block, and may "
            f"take {memory[first]:,}"
        )
    memory[first] -= outside
    inferred = infer_auto_device_map(blocks, memory, no_split_module_classes=block_classes, dtype=dtype)
    placed: Any = {f"{list_path}.{n}": inferred.get(str(n), inferred.get("")) for n in range(len(blocks))}
    if gpus and set(placed.values()) & {"cpu", "disk"}:
        raise DevicesError(
            f"--device map: these GPUs cannot hold the model, and {NO_MIXTURE}; give more GPUs, or --device map:cpu=8GiB "
            "for memory and disk"
        )
    return {**dict.fromkeys(_outside(skeleton, "", list_path), first), **placed}


def _memory(
    blocks: Any, limits: Mapping[str | int, int] | None, block_classes: list[str], dtype: torch.dtype
) -> dict[Any, int]:
    """Bytes that each device may use. Where no limits are stated a tenth of each GPU, or half of the memory, stays free."""
    from accelerate.utils import get_balanced_memory, get_max_memory

    free: Any = get_max_memory(None if limits is None else {**limits})
    if limits is not None:
        return free
    gpus: Any = {device: int(0.9 * size) for device, size in free.items() if isinstance(device, int)}
    if gpus:
        even: Any = get_balanced_memory(blocks, dict(gpus), no_split_module_classes=block_classes, dtype=dtype)
        return {device: even[device] for device in gpus}
    return {"cpu": free.get("cpu", free.get("mps", 0)) // 2}


def _outside(module: nn.Module, name: str, blocks: str) -> list[str]:
    """Paths of the largest modules that contain no block."""
    if name == blocks:
        return []
    if name and not f"{blocks}.".startswith(f"{name}."):
        return [name]
    children = module.named_children()
    return [path for key, child in children for path in _outside(child, f"{name}.{key}" if name else key, blocks)]


def materialized(module: nn.Module) -> AbstractContextManager[Any]:
    """Inside the block a module's own parameters are loaded, also where accelerate keeps them on disk."""
    from accelerate.utils import align_module_device

    return align_module_device(module)


def runs_on(module: nn.Module) -> torch.device:
    """Where a module's forward pass runs: its parameters' device, or the one they are fetched to."""
    parameter = next(module.parameters(), None)
    if parameter is not None and not parameter.is_meta:
        return parameter.device
    for submodule in module.modules():
        hook: Any = getattr(submodule, "_hf_hook", None)
        device = getattr(hook, "execution_device", None)
        if device is not None:
            return torch.device(device)
    return torch.device("cpu")


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The state dict sorted by name; offloaded tensors are loaded, one module at a time."""
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_meta:
            yield name, tensor
            continue
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        with materialized(module):
            yield name, getattr(module, last).detach()


def devices_of(model: Any, device: torch.device) -> str:
    """All devices of a model as text, the first one first: cpu+disk; `device` alone where it is on one."""
    placed = getattr(model, "hf_device_map", None) or {}
    names = [f"cuda:{where}" if isinstance(where, int) else str(where) for where in placed.values()]
    return "+".join(dict.fromkeys([str(device), *names]))

"""Devices: a model laid over several GPUs, or over memory and disk, by accelerate; weights read wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Map = dict[str, str | int]
NO_MIXTURE = "TransformerLens runs no mixture of GPUs with memory or disk"


class DevicesError(ValueError):
    """A model that cannot be laid over these devices; the message says what to give."""


@dataclass(frozen=True)
class DeviceMap:
    """Several devices: `room` says how much of each may be taken, None that all that are there may be."""

    room: Mapping[str | int, int] | None

    @classmethod
    def parse(cls, words: str) -> DeviceMap | None:
        """`map`, `map:cpu=8GiB` (memory, then disk) or `map:0=20GiB,1=20GiB` (GPUs by number); None for one device.

        Raises DevicesError.
        """
        if words.partition(":")[0] != "map":
            return None
        wrong = f"--device {words}: need map, map:cpu=8GiB (memory, then disk) or map:0=20GiB,1=20GiB (GPUs by number)"
        room: dict[str | int, int] = {}
        for part in words.split(":", 1)[1].split(",") if words != "map" else ():
            device, _, size = part.partition("=")
            number = int(device) if device.isascii() and device.isdecimal() else device
            if number in room or not (number == "cpu" or isinstance(number, int)):
                raise DevicesError(wrong)
            room[number] = _bytes(size, wrong)
        gpus = [device for device in room if isinstance(device, int)]
        if gpus and "cpu" in room:
            raise DevicesError(f"--device {words}: {NO_MIXTURE}; name GPUs, or cpu")
        if gpus and max(gpus) >= torch.cuda.device_count():
            raise DevicesError(f"--device {words}: torch sees {torch.cuda.device_count()} CUDA devices here")
        return cls(room or None)

    @property
    def first(self) -> torch.device:
        """Where all but the blocks is, and where inputs go."""
        gpus = range(torch.cuda.device_count()) if self.room is None else [n for n in self.room if isinstance(n, int)]
        return torch.device("cuda", min(gpus)) if gpus else torch.device("cpu")


def _bytes(size: str, wrong: str) -> int:
    from accelerate.utils import convert_file_size_to_int

    try:
        return convert_file_size_to_int(size)
    except (ValueError, OverflowError) as fault:  # an infinite number of bytes
        raise DevicesError(wrong) from fault


def spread_over_devices(skeleton: Any, spread: DeviceMap, dtype: torch.dtype) -> Map:
    """Which device holds which module: accelerate spreads the blocks, all else is on the first device.

    `skeleton` is the model on the meta device. Embedding, final norm and unembedding are never offloaded: margins read
    them outside any forward pass. Raises DevicesError where there is no room for that, or
    where the GPUs together are too small.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes

    skeleton.tie_weights()
    # accelerate annotates sizes, devices and formats as narrower than what it takes
    kinds: Any = sorted(map(str, skeleton._no_split_modules or ()))
    number: Any = dtype
    names = [name for name, module in skeleton.named_modules() if type(module).__name__ in kinds]
    lists = {name.rpartition(".")[0] for name in names}
    if len(lists) != 1 or len(names) != skeleton.config.get_text_config().num_hidden_layers:
        raise DevicesError(f"--device map: {type(skeleton).__name__} does not say which modules are its blocks")
    blocks = skeleton.get_submodule(where := lists.pop())
    memory: Any = _memory(blocks, spread.room, kinds, dtype)
    gpus = [device for device in memory if isinstance(device, int)]
    first = gpus[0] if gpus else "cpu"
    beside = sum(p.numel() for n, p in skeleton.named_parameters() if not n.startswith(f"{where}.")) * dtype.itemsize
    needed = beside + max(compute_module_sizes(block, dtype=number)[""] for block in blocks)
    if memory[first] < needed:
        raise DevicesError(
            f"--device map: {first} needs {needed:,} bytes for the embedding, the unembedding and one block, and may "
            f"take {memory[first]:,}"
        )
    memory[first] -= beside
    guessed = infer_auto_device_map(blocks, memory, no_split_module_classes=kinds, dtype=dtype)
    placed: Any = {f"{where}.{n}": guessed.get(str(n), guessed.get("")) for n in range(len(blocks))}
    if gpus and set(placed.values()) & {"cpu", "disk"}:
        raise DevicesError(
            f"--device map: these GPUs cannot hold the model, and {NO_MIXTURE}; give more GPUs, or --device map:cpu=8GiB "
            "for memory and disk"
        )
    return {**dict.fromkeys(_beside(skeleton, "", where), first), **placed}


def _memory(blocks: Any, room: Mapping[str | int, int] | None, kinds: list[str], dtype: torch.dtype) -> dict[Any, int]:
    """Bytes that each device may take. Of what is free by itself, a tenth of a GPU and half of the memory are left."""
    from accelerate.utils import get_balanced_memory, get_max_memory

    free: Any = get_max_memory(None if room is None else {**room})
    if room is not None:
        return free
    gpus: Any = {device: int(0.9 * size) for device, size in free.items() if isinstance(device, int)}
    if gpus:
        even: Any = get_balanced_memory(blocks, dict(gpus), no_split_module_classes=kinds, dtype=dtype)
        return {device: even[device] for device in gpus}
    return {"cpu": free.get("cpu", free.get("mps", 0)) // 2}


def _beside(module: nn.Module, name: str, blocks: str) -> list[str]:
    """The largest modules that hold no block."""
    if name == blocks:
        return []
    if name and not f"{blocks}.".startswith(f"{name}."):
        return [name]
    inner = module.named_children()
    return [path for own, child in inner for path in _beside(child, f"{name}.{own}" if name else own, blocks)]


def materialized(module: nn.Module) -> AbstractContextManager[Any]:
    """Inside the block a module's own parameters are there, also where accelerate keeps them on disk."""
    from accelerate.utils import align_module_device

    return align_module_device(module)


def runs_on(module: nn.Module) -> torch.device:
    """Where a module's forward pass runs: its parameters' device, or the one they are fetched to."""
    own = next(module.parameters(), None)
    if own is not None and not own.is_meta:
        return own.device
    for inner in module.modules():
        hook: Any = getattr(inner, "_hf_hook", None)
        device = getattr(hook, "execution_device", None)
        if device is not None:
            return torch.device(device)
    return torch.device("cpu")


def tensors(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The state dict by name, sorted, each tensor fetched if it is kept elsewhere: one module's at a time."""
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_meta:
            yield name, tensor
            continue
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        with materialized(module):
            yield name, getattr(module, last).detach()


def devices_of(model: Any, device: torch.device) -> str:
    """All devices of a model in words, its first one first; `device` where it was not laid over several."""
    placed = getattr(model, "hf_device_map", None) or {}
    names = [f"cuda:{place}" if isinstance(place, int) else str(place) for place in placed.values()]
    return "+".join(dict.fromkeys([str(device), *names]))

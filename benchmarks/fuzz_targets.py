"""Fuzz targets: one per file reader, with the only error that it may raise, and valid files as seeds."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

Target = Callable[[bytes], bool]
"""Reads one case; True where it was read, False where it was refused. Raises for any other outcome."""
Opened = Callable[[Path], AbstractContextManager[Target]]

ITEM = {
    "id": "a", "point": "p", "split": "conflict", "tier": "deep", "document": "The sea is red.", "question": "The sea is",
    "answer": "red", "prior_answer": "blue", "aliases": ["crimson"], "prior_aliases": ["azure"],
    "chat": False, "meta": {"subject": "sea"},
}  # fmt: skip
RIPPLE = {
    "edit": {"prompt": "The mother of A is B.", "subject_id": "Q1", "relation": "mother", "target_id": "Q2",
             "previous_fact": {"prompt": "The mother of A is C.", "subject_id": "Q1", "relation": "mother", "target_id": "Q3"}},
    "Compositionality_I": [{"test_queries": [{"prompt": "The brother of B is", "relation": "brother", "target_ids": ["Q4"],
                            "answers": [{"value": "D", "aliases": ["Dee"]}]}]}],
    "Relation_Specifity": [{"test_queries": [{"prompt": "A is from", "answers": [{"value": "E", "aliases": []}]}]}],
}  # fmt: skip
RECORDS = [
    {"case_id": 1, "prompt": "A is", "target_new": "b", "subject": "A", "ground_truth": ["c", "d"]},
    {"case_id": 2, "requested_rewrite": {"prompt": "{} is", "subject": "A",
     "target_new": {"str": "b"}, "target_true": {"str": "c"}}},
    {"src": "What is A?", "alt": "b", "answers": ["c"], "subject": "A", "rephrase": "A is what?",
     "loc": "nq question: x", "loc_ans": "y"},
    {"prompt": "A is", "subject": "A", "ground_truth": [["c"]], "target_new": "b", "cond": "",
     "rephrase_prompt": "so A is",
     "locality": {"Relation": [{"prompt": "B is", "ground_truth": [["e"]]}]}},
    {"question": "q?", "object": "c", "replaced_object": "b", "subject": "A", "relation": "r",
     "temporal_conflict_evidence": "text"},
    RIPPLE,
]  # fmt: skip
PLAN = """subject = "organism"
adapters = "fitted:steps=8,lr=1e-2"
items = "starter"
policies = "as-delivered,uniform,slb-2.0-33,ca,joined-2,logit-fusion-1.5,margin-matched-2"
probes = ["margins", "layers", "causal", "sampled"]
limit = 20
answers = 3
temperatures = [0.7, 1]
draws = 2
system_prompt = "Be brief."
chat = true
seed = 3
batch_size = 8
device = "cpu"
dtype = "float32"

[[references]]
split = "conflict"
tier = "deep"
condition = "as-delivered"
measure = "top1"
value = 0.5
source = "a paper"
"""


@contextmanager
def items(folder: Path, suffix: str = ".jsonl") -> Iterator[Target]:
    """An item file; what is read can be written and read again, and is the same."""
    from override_gap.margins.items.files import json_lines, read_items
    from override_gap.margins.items.item import ItemError, documents_of, items_hash

    file, again = folder / f"case{suffix}", folder / "again.jsonl"

    def read(raw: bytes) -> bool:
        file.write_bytes(raw)
        try:
            parsed = read_items(file)
        except ItemError:
            return False
        again.write_text(json_lines(parsed), encoding="utf-8")
        if read_items(again) != parsed:
            raise AssertionError("items written and read again are not the same")
        items_hash(parsed), documents_of(parsed), [item.defects() for item in parsed]
        return True

    yield read


@contextmanager
def plan(folder: Path) -> Iterator[Target]:
    """A TOML plan, completed, with its conditions."""
    from override_gap.probes.plan import PlanError, plan_from, read_plan
    from override_gap.probes.run.resolve import resolve

    file = folder / "plan.toml"

    def read(raw: bytes) -> bool:
        file.write_bytes(raw)
        try:
            resolved = resolve(plan_from(read_plan(file)), [])
        except PlanError:
            return False
        json.dumps(resolved.plan.as_json())
        return True

    yield read


@contextmanager
def peft(folder: Path) -> Iterator[Target]:
    """A PEFT folder; a case is the length of the configuration (2 bytes), the configuration and the safetensors file."""
    from override_gap.probes.attach.stack import check
    from override_gap.probes.errors import AdapterError
    from override_gap.probes.sources.peft_config import CONFIG
    from override_gap.probes.sources.peft_folder import WEIGHTS, read_adapter

    subject, adapter = model(), folder / "adapter"
    adapter.mkdir()

    def read(raw: bytes) -> bool:
        size = int.from_bytes(raw[:2], "little")
        (adapter / CONFIG).write_bytes(raw[2 : 2 + size])
        (adapter / WEIGHTS).write_bytes(raw[2 + size :])
        try:
            check(subject, [read_adapter(adapter, subject)])
        except AdapterError:
            return False
        return True

    yield read


@contextmanager
def compact(folder: Path) -> Iterator[Target]:
    """A compact file, from which one document is encoded."""
    yield _file(folder, "compact")


@contextmanager
def layered(folder: Path) -> Iterator[Target]:
    """A Doc-to-LoRA file, from which one document is encoded."""
    yield _file(folder, "doc-to-lora")


@contextmanager
def dense(folder: Path) -> Iterator[Target]:
    """A file of dense edits and of factors."""
    yield _file(folder, "dense")


def _file(folder: Path, form: str) -> Target:
    from override_gap.margins.adapter import traits_of
    from override_gap.margins.items.item import Document
    from override_gap.probes.attach.stack import check
    from override_gap.probes.errors import AdapterError
    from override_gap.probes.sources import open_source

    subject, file = model(), folder / "case.safetensors"
    document = Document("The sea is red.", ("a",), ("p",))

    def read(raw: bytes) -> bool:
        file.write_bytes(raw)
        try:
            source = open_source(f"{form}:{file}", subject)
            traits_of(source)
            (adapter,) = source.encode([document])
            check(subject, [adapter])
        except AdapterError:
            return False
        return True

    return read


def model() -> Any:
    """A tiny subject; adapters are read for it, and it answers nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from override_gap.probes.subject.model import wrap
    from tests.families import words

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    llama = LlamaForCausalLM(LlamaConfig(**sizes))
    return replace(wrap(llama, words(), "tiny"), fingerprint="f")


def tensor_file(tensors: dict[str, list[int]], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file of float32 ones."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, shape in tensors.items():
        count = 1
        for size in shape:
            count *= size
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + 4 * count]}
        body += struct.pack("<f", 1.0) * count
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


DOWN = "model.layers.1.mlp.down_proj"


def _peft_seeds() -> list[bytes]:
    seeds = []
    prefix, norm = f"base_model.model.{DOWN}", "base_model.model.model.layers.0.input_layernorm"
    factors = {f"{prefix}.lora_A.weight": [2, 12], f"{prefix}.lora_B.weight": [8, 2]}
    plain = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "rank_pattern": {},
        "alpha_pattern": {"down_proj": 8},
        "bias": "none",
    }
    for config, tensors in (
        (plain, factors),
        ({**plain, "use_rslora": True, "lora_bias": True}, {**factors, f"{prefix}.lora_B.bias": [8]}),
        ({**plain, "use_dora": True}, {**factors, f"{prefix}.lora_magnitude_vector": [8]}),
        ({**plain, "modules_to_save": ["down_proj"]}, {f"{prefix}.weight": [8, 12]}),
        ({**plain, "modules_to_save": ["input_layernorm"]}, {**factors, f"{norm}.weight": [8]}),
    ):
        text = json.dumps(config).encode()
        seeds.append(len(text).to_bytes(2, "little") + text + tensor_file(tensors))
    return seeds


def _compact_seeds() -> list[bytes]:
    import tempfile

    import torch

    from override_gap.margins.adapter import Adapter
    from override_gap.margins.items.item import Document
    from override_gap.margins.updates import Dense, LowRank, Vector
    from override_gap.probes.sources.compact_index import write_compact

    updates = {
        DOWN: LowRank(torch.ones(2, 12), torch.ones(8, 2), 0.5),
        "model.layers.0.mlp.up_proj": Dense(torch.ones(12, 8)),
    }
    shared = {"model.layers.0.input_layernorm.weight": Vector(torch.ones(8))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seed"
        document = Document("The sea is red.", ("a",), ("p",))
        write_compact(file, [document], [Adapter("n", updates, shared)], method="m", base_fingerprint="f")
        return [file.read_bytes()]


def _layered_seeds() -> list[bytes]:
    whole = {"documents/a/down_proj/A": [2, 2, 12], "documents/a/down_proj/B": [2, 2, 8]}
    chunks = {"documents/p/down_proj/A": [1, 2, 2, 12], "documents/p/down_proj/B": [1, 2, 2, 8]}
    shared = {"shared/down_proj/A": [2, 1, 12], "shared/down_proj/B": [2, 1, 8]}
    return [
        tensor_file({**whole, **shared}, {"lora_alpha": "4.0", "layers": "[0, 1]"}),
        tensor_file(chunks, {"lora_alpha": "4", "base_fingerprint": "f"}),
    ]


def _dense_seeds() -> list[bytes]:
    return [
        tensor_file({f"{DOWN}.weight": [8, 12], "model.layers.0.input_layernorm.weight": [8]}),
        tensor_file({f"a/{DOWN}.A": [2, 12], f"a/{DOWN}.B": [8, 2]}, {"base_fingerprint": "f"}),
    ]


def _csv_seeds() -> list[bytes]:
    head = "id,point,split,document,question,answer,prior_answer,aliases,chat,meta\n"
    return [
        (head + 'a,p,conflict,"The sea,\nis red.",The sea is,red,blue,crimson | ruby,true,"{""k"": [1]}"\n').encode(),
        b"case_id,prompt,subject,ground_truth,target_new\n7,The sea is,sea,blue,red\n",
    ]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "items": lambda: [
        (json.dumps(ITEM) + "\n" + json.dumps({**ITEM, "id": "b", "split": "novel", "tier": None})).encode(),
        json.dumps(ITEM).encode(),
    ],
    "items-array": lambda: [json.dumps([ITEM, {**ITEM, "id": "b"}], indent=1).encode()],
    "items-csv": _csv_seeds,
    "convert": lambda: [json.dumps(record).encode() for record in RECORDS],
    "plan": lambda: [PLAN.encode(), b'subject = "organism"\nlimit = 3\n'],
    "peft": _peft_seeds,
    "compact": _compact_seeds,
    "layered": _layered_seeds,
    "dense": _dense_seeds,
}
TARGETS: dict[str, Opened] = {
    "items": items,
    "items-array": lambda folder: items(folder, ".json"),
    "items-csv": lambda folder: items(folder, ".csv"),
    "convert": items,
    "plan": plan,
    "peft": peft,
    "compact": compact,
    "layered": layered,
    "dense": dense,
}

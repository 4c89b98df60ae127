"""DyPRAG's factors as PEFT folders, read by PEFT's rule and as `unscaled:`, against the logits of its own model.

    python -m benchmarks.real.unscaled_folders dyprag.safetensors SUBJECT FOLDER

The file is what `dyprag.py` of the export kit wrote in DyPRAG's environment, with its model's own logits. FOLDER is new. Its
factors are saved there under the keys of the method's own dict, one folder per document, r and lora_alpha as configured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.run.last_logits import last_logits
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact import read_compact
from override_gap.probes.subject.load import open_subject

ALPHA = 32


def main(file: str, name: str, out: str) -> None:
    """Print the largest difference of a logit, in nats, for either reading."""
    subject, source, folder = open_subject(name), read_compact(Path(file)), Path(out)
    assert source.native_examples is not None, "export with the method's own logits"
    examples = source.native_examples()
    keys = [str(example.adapter.name).rpartition(":")[2] for example in examples]
    for key, example in zip(keys, examples, strict=True):
        save(folder / key, example.adapter)
    for spec in (str(folder), f"unscaled:{folder}"):
        gaps = []
        for key, example in zip(keys, examples, strict=True):
            document = Document(example.text, ids=(key,))
            [adapter] = open_source(spec, subject).encode([document])
            ours = last_logits(subject, [example.ids], [adapter], 1.0)[0]
            gaps.append((ours - example.logits).abs().max().item())
        print(f"{'unscaled' if spec != out else 'as PEFT'}: {max(gaps):.3g} nats over {len(gaps)} texts")


def save(folder: Path, adapter: object) -> None:
    """One document's factors and the configuration that they were made with."""
    assert isinstance(adapter, Adapter)
    tensors, rank = {}, 0
    for path, update in adapter.updates.items():
        assert isinstance(update, LowRank)
        assert update.scale == 1.0
        rank = update.rank
        tensors[f"base_model.model.{path}.lora_A.weight"] = update.A.contiguous()
        tensors[f"base_model.model.{path}.lora_B.weight"] = update.B.contiguous()
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = sorted({path.rpartition(".")[2] for path in adapter.updates})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": ALPHA, "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:4])

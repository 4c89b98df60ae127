"""Checks of a model's folder before a library opens it: which files will be read, and whether any reaches for something else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from override_gap.margins.strict_json import LARGEST
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.file_checks import INDEX, WEIGHTS

ADAPTER = "adapter_config.json"
TOKENIZER = "tokenizer.json"
LARGEST_TOKENIZER = 128 * 2**20
"""Bytes of a tokenizer.json; those of models with 262,000 tokens have 33 MB."""
LARGEST_TEMPLATE = 2**20
"""Bytes of a chat template."""
JSONS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "processor_config.json",
    "preprocessor_config.json",
)
VOCABULARIES = (
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
TEMPLATES = ("chat_template.jinja", "chat_template.json")
MORE_TEMPLATES = "additional_chat_templates"
READ = (*JSONS, TOKENIZER, *VOCABULARIES, *TEMPLATES, INDEX, WEIGHTS)
"""What is read of a model's folder, beside the weight files that the index names, MORE_TEMPLATES/*.jinja and, where the model's
own Python is trusted, that; `tests/probes/subject/test_folder_checks.py` watches which files are opened."""


def check_folder(folder: Path, *, trust: bool = False) -> None:
    """Raise SubjectError where a model's folder holds an adapter, files too large to be settings, or settings that reach outside.

    With `trust` the model's own Python may be run, and so may kernels that the configuration names.
    """
    if (folder / ADAPTER).exists():
        # transformers would put the adapter into the model without a word, or open the adapter's base in its stead
        raise SubjectError(
            f"{folder}: holds the settings of an adapter ({ADAPTER}) beside config.json, so which model is meant is unclear; "
            "give the base, or move the adapter's files to a folder of their own"
        )
    check_tokenizer_folder(folder, trust=trust)
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    if pickles and not any(folder.glob("*.safetensors")):
        raise SubjectError(
            f"{folder}: its weights are in {pickles[0]}, a pickle, which is not opened because it can run code; save them anew "
            "with transformers' save_pretrained, which writes safetensors"
        )


def check_tokenizer_folder(folder: Path, *, trust: bool = False) -> None:
    """What `check_folder` asks of the files that are no weights. Raises SubjectError."""
    templates = [folder / name for name in TEMPLATES] + sorted((folder / MORE_TEMPLATES).glob("*.jinja"))
    limits = {folder / name: LARGEST for name in (*JSONS, *VOCABULARIES, INDEX)}
    limits |= {folder / TOKENIZER: LARGEST_TOKENIZER} | dict.fromkeys(templates, LARGEST_TEMPLATE)
    for file, largest in limits.items():
        if file.is_file() and (size := file.stat().st_size) > largest:
            raise SubjectError(f"{file}: {size:,} bytes; such a file has at most {largest:,}")
    for name in JSONS:
        try:
            settings = json.loads((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # what reads it next says what is wrong with it
        for key, value in _entries(settings):
            if fault := _reaches_outside(key, value, trust):
                raise SubjectError(f"{folder / name}: {key} = {str(value)[:80]!r} {fault}")


def _entries(settings: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    pending = [settings]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield from value.items()
        if isinstance(value, dict | list):
            pending.extend(value.values() if isinstance(value, dict) else value)


def _texts(value: Any) -> list[str]:
    """The texts in a value, at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, str) else [text for child in inner for text in _texts(child)]


def _reaches_outside(key: str, value: Any, trust: bool) -> str | None:
    """What a setting would have a library open or run that is no file of the folder, in words; None for all others."""
    if re.search(r"_implementation", key) and any("/" in text for text in _texts(value)) and not trust:
        return (
            "names compiled code of a repository, which is not run because it could do anything; read it, and if you trust it "
            "give --trust-remote-code"
        )
    if key == "fast_tokenizer_files" and any(Path(text).name != text for text in _texts(value)):
        return "names a file that is not in this folder"
    if key in ("gguf_file", "init_inputs") and value:
        return "would have the tokenizer opened from another file; remove it"
    if key in ("vocab", "merges") and isinstance(value, str):
        return "is a path, where a tokenizer's configuration holds none; remove it"
    return None

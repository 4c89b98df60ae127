"""A model's folder: which files a library opens in it, and settings that would have it open or run something else."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from override_gap.margins.items.item import ItemError
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject import folder_checks
from override_gap.probes.subject.folder_checks import MORE_TEMPLATES, READ, check_folder
from override_gap.probes.subject.load import open_subject, open_tokenizer
from override_gap.probes.subject.parity import model_logits
from tests.cli.bad_inputs.models import shipped

DECOYS = (
    "adapter_model.safetensors adapter_model.bin pytorch_model.bin tf_model.h5 model.pt params.json consolidated.safetensors "
    "custom_generate/generate.py modeling_x.py requirements.txt quantize_config.json hf_quant_config.json modules.json "
    "adapters/a/adapter_config.json original/params.json sub/config.json recipe.yaml kernel.py __init__.py x.gguf "
    "video_preprocessor_config.json feature_extractor_config.json image_processor_config.json .env tokenizer.5.0.json"
).split()
IDS = torch.tensor([[5, 9, 7, 30, 10, 41, 12, 60, 4]])


def model_folder(folder: Path, **changed: Any) -> Path:
    """A tiny model as save_pretrained writes it, with other settings in its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in shipped().items():
        (folder / name).write_bytes(raw)
    config = json.loads(shipped()["config.json"])
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    return folder


def change(folder: Path, name: str, **changed: Any) -> None:
    file = folder / name
    settings = json.loads(file.read_bytes()) if file.exists() else {}
    file.write_text(json.dumps({**settings, **changed}))


class Opened:
    """Files opened in a folder and below, by whatever library: Linux tells of each (inotify, IN_OPEN)."""

    def __init__(self, root: Path) -> None:
        folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
        self._libc = ctypes.CDLL(None)
        self._stream = self._libc.inotify_init1(os.O_NONBLOCK)
        self._folders = {
            self._libc.inotify_add_watch(self._stream, str(path).encode(), 0x20): path.relative_to(root)
            for path in folders
        }

    def files(self) -> set[str]:
        names, is_folder = set(), 0x40000000
        try:
            while raw := os.read(self._stream, 2**20):
                at = 0
                while at < len(raw):
                    watch, mask, _, length = struct.unpack_from("iIII", raw, at)
                    name = raw[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                    at += 16 + length
                    if name and not mask & is_folder:
                        names.add(str(self._folders[watch] / name))
        except BlockingIOError:
            return names
        return names


@cache
def plain_logits() -> torch.Tensor:
    """The tiny model's logits, opened from nothing but what save_pretrained wrote."""
    with TemporaryDirectory() as folder:
        return model_logits(open_subject(str(model_folder(Path(folder))), device="cpu").model, IDS)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_nothing_is_opened_in_a_models_folder_but_what_was_checked(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    for name in (*DECOYS, *READ, f"{MORE_TEMPLATES}/tool.jinja"):
        if not (folder / name).exists() and name != "model.safetensors.index.json":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}" if name.endswith("json") else "x")
    opened = Opened(folder)
    subject = open_subject(str(folder), device="cpu")
    files = opened.files()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files  # the watch sees libraries in Rust too
    assert files <= {*READ, f"{MORE_TEMPLATES}/tool.jinja"}
    assert torch.equal(model_logits(subject.model, IDS), plain_logits())
    opened.files()
    open_tokenizer(str(folder))
    assert opened.files() <= {*READ, f"{MORE_TEMPLATES}/tool.jinja"}


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_of_a_gguf_file_only_the_file_is_opened(tmp_path: Path) -> None:
    """A tokenizer or an adapter that lies beside it, from another download, would be read by the library."""
    from benchmarks.families.gguf_files import model_of, write_family

    path = Path(write_family(model_of("llama"), "llama", tmp_path))
    alone = open_subject(str(path), device="cpu", dtype="float32")
    for name in (*READ, "adapter_config.json", "adapter_model.safetensors", "model-00001-of-00002.gguf"):
        (tmp_path / name).write_text("{}" if name.endswith("json") else "x")
    opened = Opened(tmp_path)
    beside = open_subject(str(path), device="cpu", dtype="float32")
    assert opened.files() <= {path.name}
    assert beside.fingerprint == alone.fingerprint
    assert beside.model.config.name_or_path == str(tmp_path)


REACHING: dict[str, tuple[str, dict[str, Any], str]] = {
    "a kernel": ("config.json", {"_attn_implementation": "evil/kernel"}, "names compiled code of a repository"),
    "a kernel, by the public name": (
        "config.json",
        {"attn_implementation": "paged|evil/kernel:fn"},
        "names compiled code",
    ),
    "a kernel of a part": (
        "config.json",
        {"attn_implementation": {"text_config": "evil/kernel"}},
        "names compiled code",
    ),
    "a kernel, within": ("config.json", {"text_config": {"_attn_implementation": "a/b@main:f"}}, "names compiled code"),
    "a kernel, as kept inside": ("config.json", {"_attn_implementation_internal": "a/b"}, "names compiled code"),
    "experts from a kernel": ("config.json", {"experts_implementation": "evil/experts"}, "names compiled code"),
    "a kernel for generation": (
        "generation_config.json",
        {"attn_implementation": "evil/kernel"},
        "names compiled code",
    ),
    "a tokenizer's file elsewhere": (
        "tokenizer_config.json",
        {"fast_tokenizer_files": ["tokenizer.json", "../other/tokenizer.4.0.json"]},
        "names a file that is not in this folder",
    ),
    "a tokenizer from GGUF": ("tokenizer_config.json", {"gguf_file": "../x.gguf"}, "opened from another file"),
    "a tokenizer's arguments": ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}, "opened from another file"),
    "a vocabulary elsewhere": ("tokenizer_config.json", {"vocab": "/etc/passwd"}, "is a path"),
    "merges elsewhere": ("tokenizer_config.json", {"merges": "../merges.txt"}, "is a path"),
}


@pytest.mark.parametrize("name", REACHING)
def test_settings_that_reach_outside_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    file, settings, message = REACHING[name]
    folder = model_folder(tmp_path / "model")
    change(folder, file, **settings)
    with pytest.raises(SubjectError, match=message) as refused:
        open_subject(str(folder), device="cpu")
    assert "\n" not in str(refused.value)
    if "kernel" in name:
        assert "--trust-remote-code" in str(refused.value)
        check_folder(folder, trust=True)
    else:
        with pytest.raises(ItemError, match=message):
            open_tokenizer(str(folder))


HONEST: dict[str, tuple[str, dict[str, Any]]] = {
    "implementations by name": (
        "config.json",
        {"_attn_implementation": "sdpa"},
    ),
    "paths of the writer's machine": (
        "tokenizer_config.json",
        {
            "tokenizer_file": "/home/them/tokenizer.json",
            "special_tokens_map_file": "/fsx/x.json",
            "name_or_path": "their/model",
        },
    ),
    "a base's name": ("config.json", {"_name_or_path": "their/model"}),
    "nothing in init_inputs": ("tokenizer_config.json", {"init_inputs": []}),
    "versions of a tokenizer": ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.json"]}),
    "own code beside a class that the library has": (
        "config.json",
        {"auto_map": {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}},
    ),
    "own code of another repository": ("config.json", {"auto_map": {"AutoModelForCausalLM": "other/repo--m.X"}}),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_published_folders_hold_opens_as_before(name: str, tmp_path: Path) -> None:
    file, settings = HONEST[name]
    folder = model_folder(tmp_path / "model")
    change(folder, file, **settings)
    (folder / "modeling_x.py").write_text("raise SystemExit('run')\n")
    subject = open_subject(str(folder), device="cpu")
    assert torch.equal(model_logits(subject.model, IDS), plain_logits())


def test_a_tokenizers_own_code_is_refused_and_nobody_is_asked(tmp_path: Path, monkeypatch) -> None:
    """transformers asks on the terminal whether to run it, unless it is told."""
    folder = model_folder(tmp_path / "model")
    change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    for attempt in (lambda: open_subject(str(folder), device="cpu"), lambda: open_tokenizer(str(folder))):
        with suppress(SubjectError, ItemError):  # where the library has a class that reads the folder, it takes that
            attempt()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("where", [".", "nested/../."])
def test_an_adapter_beside_the_weights_is_refused(where: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "nested").mkdir()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(SubjectError, match="which model is meant is unclear"):
        open_subject(str(folder / where), device="cpu")


def test_files_that_are_no_settings_are_refused_by_size(tmp_path: Path, monkeypatch) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text("x" * (folder_checks.LARGEST_TEMPLATE + 1))
    with pytest.raises(SubjectError, match=r"chat_template.jinja: 1,048,577 bytes; such a file has at most 1,048,576"):
        open_subject(str(folder), device="cpu")
    (folder / "chat_template.jinja").unlink()
    with (folder / "tokenizer.json").open("r+b") as file:
        file.truncate(folder_checks.LARGEST_TOKENIZER + 1)  # a hole takes no disk
    for attempt in (lambda: open_subject(str(folder), device="cpu"), lambda: open_tokenizer(str(folder))):
        with pytest.raises((SubjectError, ItemError), match=r"tokenizer.json: 134,217,729 bytes"):
            attempt()

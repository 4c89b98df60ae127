"""Models by their Hugging Face id: their files are brought here first, so that they are checked as any folder is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.file_checks import WEIGHTS, indexed_files, model_files
from override_gap.probes.subject.folder_checks import ADAPTER, MORE_TEMPLATES, READ


def from_hub(name: str, *, trust: bool = False) -> Path:
    """The folder in the hub's cache that holds a model, by its id OWNER/NAME; what is not there yet is fetched.

    Only what is read is fetched: settings, tokenizer and, after these were looked at, the weights in safetensors; Python only
    with `trust`. Raises SubjectError for a repository without such weights, and what huggingface_hub raises.
    """
    from huggingface_hub import snapshot_download

    files = [file for file in READ if file != WEIGHTS] + [ADAPTER, f"{MORE_TEMPLATES}/*.jinja"]
    folder = Path(snapshot_download(name, allow_patterns=files + (["*.py"] if trust else [])))
    if not (folder / "config.json").is_file():
        raise SubjectError(f"{name}: no config.json in this repository; need a model that save_pretrained wrote")
    if (folder / ADAPTER).exists():
        return folder  # `check_folder` says what is wrong with it; its weights are not fetched
    commit = folder.name
    snapshot_download(name, revision=commit, allow_patterns=[WEIGHTS])
    if not (folder / WEIGHTS).is_file() and (names := indexed_files(folder)):
        snapshot_download(name, revision=commit, allow_patterns=names)
    if not model_files(folder):
        raise SubjectError(
            f"{name}: no weights in safetensors in this repository, and pickle files are not opened because they can run code"
        )
    return folder


@contextmanager
def hub_unreached() -> Iterator[None]:
    """Inside the block no library asks the hub for anything: a model's folder is opened as it lies there."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before

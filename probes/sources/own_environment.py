"""Methods run in their own environment: the glue of the export kit as a subprocess, which writes a compact file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from override_gap.margins.whole_files import leftovers, make_folder, remove_abandoned, write_text
from override_gap.probes import export_kit
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.files import PICKLES, file_hash

KIT = Path(str(export_kit.__file__)).parent
GLUE = {"doc-to-lora": "doc_to_lora.py"}
"""The scripts of `probes/export_kit` by the method's name on the command line."""
SETTINGS = {"doc-to-lora": ("base", "base-dtype", "device", "full-encoder", "native", "repository", "trust-pickle")}
"""Options of each script that the command line takes as NAME=VALUE behind the checkpoint, separated by commas."""
WEIGHTS = "pytorch_model.bin"
"""The file in a checkpoint's folder."""
SAY_EVERY_S = 2.0
_DONE = re.compile(r"document (\d{1,9}) of (\d{1,9})\s*")
_LONGEST = 400
"""Characters of a child's last line that are repeated in an error."""


@dataclass(frozen=True)
class Checkpoint:
    """A method's own checkpoint, as `--adapters METHOD:FILE[,SETTING=VALUE...]` names it."""

    method: str
    file: Path
    settings: Mapping[str, str]

    @classmethod
    def parse(cls, spec: str) -> Checkpoint | None:
        """The checkpoint that the words for `--adapters` name; None for words that name something else.

        Raises AdapterError for a setting that the method's script does not take.
        """
        method, _, rest = spec.partition(":")
        if method not in GLUE or not rest:
            return None
        known = SETTINGS[method]
        words = re.split(r",(?=[a-z-]+=)", rest)
        file = Path(words[0])
        if file.is_dir() and (file / WEIGHTS).is_file():
            file = file / WEIGHTS
        if file.suffix not in PICKLES:
            return None
        settings: dict[str, str] = {}
        for word in words[1:]:
            name, _, value = word.partition("=")
            if name not in known or not value:
                raise AdapterError(f"--adapters {spec}: need one of {', '.join(known)} as NAME=VALUE, got {word!r}")
            settings[name] = value
        return cls(method, file, settings)

    @property
    def options(self) -> list[str]:
        """The settings as options of the script; those without a value where they are true."""
        words: list[str] = []
        for name, value in sorted(self.settings.items()):
            if name not in ("full-encoder", "trust-pickle"):
                path = name in ("base", "repository")
                words += [f"--{name}", str(Path(value).absolute()) if path else value]
            elif value == "true":
                words.append(f"--{name}")
            elif value != "false":
                raise AdapterError(f"{name} needs true or false, got {value!r}")
        return words


def needs_python(checkpoint: Checkpoint) -> AdapterError:
    """The error for a checkpoint that is named without the environment that it is to be opened in."""
    return AdapterError(
        f"{checkpoint.file}: a checkpoint of {checkpoint.method} is a pickle and needs its own package; add --python "
        f"/ITS/ENVIRONMENT/bin/python, or write a file there (`override-gap adapters kit {checkpoint.method} --out FOLDER`)"
    )


def export(
    checkpoint: Checkpoint,
    python: Path,
    lines: Sequence[str],
    folder: Path,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Path:
    """The adapters of documents, `lines` as `items documents` writes them, as a compact file in `folder`.

    `python` is the interpreter of the method's environment. The file is named by the hash of the checkpoint, the settings and
    the lines; one that is there is not made again. `progress` is called with (documents done, documents, what is done). Raises
    AdapterError where the script fails: its last line, and where its output is.
    """
    if not checkpoint.file.is_file():
        raise AdapterError(f"{checkpoint.file}: no such file; need a checkpoint of {checkpoint.method}")
    if not (python.is_file() and os.access(python, os.X_OK)):
        raise AdapterError(f"--python {python}: no such program; need the Python of {checkpoint.method}'s environment")
    make_folder(folder)
    what = [checkpoint.method, file_hash(checkpoint.file), *checkpoint.options, *lines]
    name = f"{checkpoint.method}-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}"
    out, log, documents = (folder / f"{name}{end}" for end in (".safetensors", ".log", ".jsonl"))
    if out.is_file():
        progress(len(lines), len(lines), f"adapters of {checkpoint.method} are there")
        return out
    remove_abandoned(leftovers(folder))  # of a script that was killed
    write_text(documents, "".join(lines))
    script = KIT / GLUE[checkpoint.method]
    paths = [str(path.absolute()) for path in (script, checkpoint.file, documents, out)]
    # the link itself, not what it leads to: a virtual environment is found by where its python lies
    command = [str(python.absolute()), *paths, *checkpoint.options]
    progress(0, len(lines), f"{checkpoint.method} encodes documents")
    code, last = _run(command, log, lambda done, total: progress(done, total, f"{checkpoint.method} encodes documents"))
    if code != 0 or not out.is_file():
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        why = last.removeprefix("error: ") if last else how
        raise AdapterError(f"{checkpoint.method} could not be run in {python}: {why} (its output: {log})")
    return out


def _run(command: Sequence[str], log: Path, done: Callable[[int, int], None]) -> tuple[int, str]:
    """Run a script to its end, its output into `log`; its exit code and last line. It does not outlive this process's call."""
    # nothing is written beside the script
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    last, said = "", 0.0
    with log.open("w", encoding="utf-8") as out:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
        )
        try:
            for line in child.stdout or ():
                if match := _DONE.fullmatch(line):
                    if match[1] == match[2] or time.monotonic() - said > SAY_EVERY_S:
                        done(int(match[1]), int(match[2]))
                        said = time.monotonic()
                    continue
                out.write(line)
                out.flush()
                last = line.strip()[:_LONGEST] or last
            return child.wait(), last
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()

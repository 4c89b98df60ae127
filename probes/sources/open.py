"""Open the source of adapters that a user names."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from override_gap.margins.adapter import AdapterSource
from override_gap.probes.catalogue import ADAPTERS, installed_sources
from override_gap.probes.code_words import is_object
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.own_environment import Checkpoint, needs_python
from override_gap.probes.subject.model import Subject

NAMES = frozenset(form.partition(":")[0] for form in ADAPTERS) - {"FOLDER", "MODULE"}
"""What comes before a colon, or alone, and is no folder."""
LAYERED = ("doc-to-lora", "generative-adapter", "shine")


def open_source(
    spec: str,
    subject: Subject,
    *,
    adapter_map: str | None = None,
    shared_adapter: str | None = None,
) -> AdapterSource:
    """The source that `spec` names: `NAME`, `NAME:SETTING=VALUE,...`, `FORM:FILE`, a folder or `MODULE:OBJECT`.

    `adapter_map`: a file that says which adapter is whose, for folders of PEFT adapters, dense and stacked files.
    `shared_adapter`: a PEFT folder that is taken out of every adapter of a folder, as the part that all share.
    A method's own checkpoint is opened in its own environment alone (`probes.run.exported`). Raises AdapterError.
    """
    name, colon, rest = spec.partition(":")
    is_folder = Path(spec).is_dir() and name not in NAMES
    if shared_adapter is not None and name == "unscaled":
        raise AdapterError(
            f"--shared-adapter is not for {spec}: a shared part is taken out at PEFT's scale, which acts nowhere in an unscaled "
            "folder; leave it out, and the adapters are measured whole"
        )
    if shared_adapter is not None and not is_folder:
        raise AdapterError(f"--shared-adapter is taken out of the adapters of a folder that PEFT saved; {spec} is none")
    if adapter_map is not None and not is_folder and name not in ("unscaled", "dense", "prefix", *LAYERED):
        raise AdapterError(
            f"--adapter-map is for folders that PEFT saved (unscaled: ones too) and dense:, prefix:, {':, '.join(LAYERED)}: "
            f"files; {spec} names its documents itself"
        )
    mapped = None
    if adapter_map is not None:
        from override_gap.probes.sources.adapter_map import read_map

        mapped = read_map(Path(adapter_map))
    form = next((form for form in ADAPTERS if form.startswith(f"{name}:")), None)
    if colon and form and not rest.strip():
        raise AdapterError(f"--adapters {spec} names nothing after the colon; write {form}")
    if name == "fitted":
        from override_gap.probes.sources.fitted import FittedAdapters

        return FittedAdapters(subject, **_settings(spec, rest, FittedAdapters))
    if name == "rank-one":
        from override_gap.probes.sources.rank_one import RankOne

        return RankOne(subject, **_settings(spec, rest, RankOne))
    if name == "hypernetwork":
        from override_gap.probes.sources.hypernetwork import open_hypernetwork

        settings: dict[str, str] = {}
        for pair in filter(None, rest.split(",")):
            key, _, value = pair.partition("=")
            if key not in ("fault", "seed", "folder") or (key == "seed" and not value.isdecimal()):
                raise AdapterError(f"--adapters {spec}: need fault=NAME, seed=NUMBER or folder=FOLDER, got {pair!r}")
            settings[key] = value
        return open_hypernetwork(
            subject, settings.get("fault", ""), int(settings.get("seed", "0")), settings.get("folder", "")
        )
    if name == "compact":
        from override_gap.probes.sources.compact import read_compact

        return read_compact(Path(rest))
    if name == "unscaled":
        from override_gap.probes.sources.peft_folder import PeftFolder
        from override_gap.probes.sources.peft_unscaled import Unscaled

        if not Path(rest).is_dir():
            raise AdapterError(
                f"--adapters {spec}: {rest} is no folder; name a folder saved by PEFT, or a folder of them"
            )
        return _hashed(Unscaled(PeftFolder(subject, Path(rest), mapped, scaled=False)))
    if name == "dense":
        from override_gap.probes.sources.dense import DenseFile

        return _hashed(DenseFile(subject, Path(rest), mapped))
    if name == "prefix":
        from override_gap.probes.sources.prefix_file import PrefixFile

        return _hashed(PrefixFile(Path(rest), mapped))
    if name == "callable":
        from override_gap.probes.sources.custom import open_function

        return open_function(rest)
    checkpoint = Checkpoint.parse(spec)
    if checkpoint is not None:
        raise needs_python(checkpoint)
    if name in LAYERED:
        from override_gap.probes.sources.stacked import StackedFile

        return _hashed(StackedFile(subject, Path(rest), name, mapped))
    if is_folder:
        from override_gap.probes.sources.peft_folder import PeftFolder

        shared = None if shared_adapter is None else Path(shared_adapter)
        return _hashed(PeftFolder(subject, Path(spec), mapped, shared))
    from override_gap.probes.sources.custom import open_custom

    offered = installed_sources()
    if spec in offered:
        return open_custom(offered[spec], subject)
    if is_object(spec):
        return open_custom(spec, subject)
    raise AdapterError(_unknown(spec, [*ADAPTERS, *offered]))


def _hashed(source: Any) -> Any:
    """The source, after its files were looked through and hashed: what is wrong with them is told before anything is run."""
    _ = source.settings
    return source


def _unknown(spec: str, names: list[str]) -> str:
    """The message for words that name no source, with the nearest that do."""
    words, _, thing = spec.partition(":")
    file = Path(f"{words.removesuffix('.py')}.py")
    if file.is_file():
        where = f" in the folder {file.parent}" if file.parent != Path() else ""
        return f"--adapters {spec}: for an object of {file}, write --adapters {file.stem}:{thing or 'OBJECT'}{where}"
    if Path(spec).is_file():
        return f"--adapters {spec}: a file needs its form before it; {_forms(Path(spec))}"
    near = difflib.get_close_matches(words, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown adapters {spec!r}: neither a source nor a folder{hint} (`override-gap list adapters`)"


def _forms(file: Path) -> str:
    """What to write for a file: the form that its metadata names, else all that read a file, compact first."""
    from override_gap.probes.export_kit.kit import FORMAT
    from override_gap.probes.sources.tensor_file import open_tensor_file

    try:
        if open_tensor_file(file).metadata.get("format") == FORMAT:
            return f"write compact:{file}"
    except AdapterError as fault:
        return str(fault)
    forms = [form.partition(":")[0] for form in ADAPTERS if form.endswith(":FILE")]
    return f"write {', '.join(f'{form}:{file}' for form in forms[:1])}, or one of {', '.join(f'{form}:' for form in forms[1:])}"


def _settings(spec: str, words: str, source: type) -> dict[str, Any]:
    """`SETTING=VALUE,...` as the fields of a source's dataclass, each of its default's type. Raises AdapterError."""
    known = {name: field for name, field in source.__dataclass_fields__.items() if name != "subject"}
    settings: dict[str, Any] = {}
    for pair in filter(None, words.split(",")):
        key, _, value = pair.partition("=")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AdapterError(f"--adapters {spec}: unknown setting {key!r}{hint} (known: {', '.join(known)})")
        default = known[key].default
        try:
            settings[key] = tuple(value.split("+")) if isinstance(default, tuple) else type(default)(value)
        except ValueError as fault:
            raise AdapterError(f"--adapters {spec}: {key} needs a {type(default).__name__}, got {value!r}") from fault
        positive = not isinstance(default, tuple | str) and key not in ("seed", "layer")
        if positive and not 0 < settings[key] < float("inf"):
            raise AdapterError(f"--adapters {spec}: {key} must be above 0, got {value}")
    return settings

"""Plan: the settings of an audit, also as a TOML file with the same keys. No model library is loaded for it."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from override_gap.margins.published import Reference, reference_from
from override_gap.probes.catalogue import PROBES
from override_gap.probes.code_words import MARKED, FromFile, code_refusal

# Probes of robustness are conditions of their own, by name.
ROBUSTNESS = {
    "joined": ("as-delivered", "joined", "in-context", "in-context-joined"),
    "stated": ("as-delivered", "stated"),
    "hedged": ("as-delivered", "hedged", "negated"),
    "contested": ("as-delivered", "contested", "contested-base"),
}
DEFAULT_PROBES = ("margins", "layers", "search", "answers")
PRIORS = ("given", "from-base")
MOST_DRAWS = 10_000
MOST_DOSE_ITEMS = 1_000_000
LARGEST = 2**20
"""Bytes of a plan file; it holds settings, and the published shares that stand beside what is measured."""
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?>[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
"""A key of a hundred parts: reading it takes time in proportion to the square of their number, hours for a plan of 1 MiB."""
METHODS_TEMPLATE = "method"
"""The `chat_template` of a plan whose questions go through the template that the method stored with its adapters."""
#: Kinds of values in a plan file, in words.
WORDS = {int: "a whole number", str: "a text", bool: "true or false", list: "a list", dict: "a table"}
#: The settings that say how questions are put to an instruction-tuned model.
CHAT_SETTINGS = ("chat", "system_prompt", "chat_template", "template_args")
#: What `apply_chat_template` takes beside a template's own settings.
RESERVED_ARGS = frozenset(
    "conversation messages chat_template add_generation_prompt continue_final_message tokenize sanitize_control_tokens "
    "padding truncation max_length return_tensors return_dict return_assistant_tokens_mask tokenizer_kwargs".split()
)
# The organism is small enough for every probe and policy; a large subject gets those that its user names.
ORGANISM = {
    "policies": "as-delivered,uniform,slb,ca,ca-slb,random-layers,bottom-layers,random-matched,margin-matched,"
    "relevance-gate,logit-fusion,in-context,null-other",
    "probes": ("margins", "layers", "causal", "search", "critical", "answers"),
}


class PlanError(ValueError):
    """A plan that cannot be run; the message names the setting to change."""


@dataclass(frozen=True)
class Plan:
    """The settings of an audit.

    `adapter_map` is a file (JSON or CSV) that says which adapter of a folder or file belongs to which document;
    `shared_adapter` a PEFT folder that is taken out of every adapter of a folder. `answers` is how many items are also
    answered in words; `limit` keeps the first items. `chat` puts every question through the subject's chat template,
    `system_prompt` does so behind a system turn. `chat_template` is a file that
    replaces the template, the name of one that the tokenizer has, or "method" for the one that the adapters came with;
    `template_args` are the template's own settings.
    `prior` says where old answers come from: "given", the items alone, or "from-base": conflicts without one get the base's
    own greedy answer. `cluster` names the field of an item's meta by which facts are alike (their relation): intervals are
    then made by it as well as by knowledge point, and the wider one is read. `references` are published shares that the
    report shows beside its own; they change no measurement. `dose_items` is on how many conflicts
    the probe prior-dose changes the prior. `reference` measures one item under one condition at a time,
    shares no work between passes, and ignores `batch_size`; "auto" is what fits in the memory that is free.
    """

    # the values come from files and people: a wrong one is a PlanError in words, not a fault of the types
    __no_type_check__ = True

    subject: str = "organism"
    adapters: str = "fitted"
    items: str = "starter"
    policies: str = "as-delivered,uniform-0.5,uniform-1.5,uniform-2,slb,ca,random-layers,null-other"
    probes: tuple[str, ...] = DEFAULT_PROBES
    limit: int | None = None
    answers: int = 32
    dose_items: int = 60
    temperatures: tuple[float, ...] = (0.7, 1.0)
    draws: int = 4
    system_prompt: str | None = None
    chat: bool = False
    chat_template: str | None = None
    template_args: dict[str, Any] = field(default_factory=dict)
    prior: str = "given"
    cluster: str = "relation"
    seed: int = 0
    batch_size: int | Literal["auto"] = "auto"
    reference: bool = False
    device: str = "auto"
    dtype: str = "auto"
    references: tuple[Reference, ...] = ()
    adapter_map: str | None = None
    shared_adapter: str | None = None

    def __post_init__(self) -> None:
        if (refusal := code_refusal(self.adapters)) is not None:
            raise PlanError(refusal)
        for name in MARKED:  # looked at, they are words as any others
            object.__setattr__(self, name, _plain(getattr(self, name)))
        for name in ("answers", "dose_items", "draws", "seed", "limit", "batch_size"):
            value = getattr(self, name)
            unset = (name == "limit" and value is None) or (name == "batch_size" and value == "auto")
            if not unset and (not isinstance(value, int) or isinstance(value, bool)):
                raise PlanError(f"{name} needs a whole number, got {value!r}")
        for name in ("probes", "temperatures"):
            if not isinstance(getattr(self, name), tuple):
                raise PlanError(f"{name} needs a tuple, got {getattr(self, name)!r}")
        unknown = [str(probe) for probe in self.probes if not isinstance(probe, str) or probe not in PROBES]
        if unknown:
            near = difflib.get_close_matches(unknown[0], PROBES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise PlanError(f"unknown probe {unknown[0]!r}{hint} Known: {', '.join(PROBES)}")
        self._check_chat()
        if self.limit is not None and self.limit < 1:
            raise PlanError(f"--limit needs a whole number of items from 1, got {self.limit}")
        if self.batch_size != "auto" and self.batch_size < 1:
            raise PlanError(f"--batch-size needs auto or a whole number from 1, got {self.batch_size}")
        if not 0 <= self.seed < 2**63:
            raise PlanError(f"--seed needs a whole number from 0 and below 2^63, got {self.seed}")
        if not isinstance(self.cluster, str) or not self.cluster.strip():
            raise PlanError(f"--cluster needs the name of a field of the items' meta, got {self.cluster!r}")
        if self.prior not in PRIORS:
            raise PlanError(f"--prior needs {' or '.join(PRIORS)}, got {self.prior!r}")
        for probe in ("causal", "gain-path"):
            if probe in self.probes and "layers" not in self.probes:
                raise PlanError(f"probe {probe} is read with the layers; add layers to --probes")
        if self.answers < 0:
            raise PlanError(f"--answers needs a whole number from 0, got {self.answers}")
        if not 1 <= self.dose_items <= MOST_DOSE_ITEMS:
            raise PlanError(f"--dose-items needs a whole number from 1 to {MOST_DOSE_ITEMS}, got {self.dose_items}")
        if not 1 <= self.draws <= MOST_DRAWS:
            raise PlanError(f"--draws needs a whole number from 1 to {MOST_DRAWS}, got {self.draws}")
        in_range = [t for t in self.temperatures if isinstance(t, int | float) and t is not True and 0 < t <= 10]
        if not self.temperatures or list(self.temperatures) != in_range:
            raise PlanError(f"--temperatures needs numbers above 0 and up to 10, got {list(self.temperatures)}")

    def _check_chat(self) -> None:
        """Raise PlanError where a setting of the chat template cannot be one."""
        if not isinstance(self.chat, bool):
            raise PlanError(f"chat needs true or false, got {self.chat!r}")
        for name in ("system_prompt", "chat_template", "adapter_map", "shared_adapter"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise PlanError(f"--{name.replace('_', '-')} needs a text, got {value!r}")
        if not isinstance(self.template_args, dict) or not all(isinstance(key, str) for key in self.template_args):
            raise PlanError(f"template_args needs settings by name, got {self.template_args!r}")
        reserved = sorted(RESERVED_ARGS & set(self.template_args))
        if reserved:
            raise PlanError(f"--template-arg {reserved[0]} cannot be set: it is how a question is put, not a setting")
        try:
            json.dumps(self.template_args, allow_nan=False)
        except (TypeError, ValueError) as fault:
            raise PlanError(f"template_args needs JSON values: {fault}") from fault

    @property
    def in_chat(self) -> bool:
        """Whether every question goes through the chat template, also of items without `chat` set."""
        return self.chat or self.system_prompt is not None

    def named_conditions(self) -> str:
        """The names of all conditions, by commas: what the policies name, and then what the probes of robustness add."""
        return ",".join([self.policies, *(name for probe in self.probes for name in ROBUSTNESS.get(probe, ()))])

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        return {**asdict(self), "probes": list(self.probes), "temperatures": list(self.temperatures)}


def _plain(word: Any) -> Any:
    return str(word) if isinstance(word, FromFile) else word


def plan_from(settings: dict[str, Any]) -> Plan:
    """A plan from some settings; the others suit the subject. Raises PlanError."""
    if settings.get("subject", "organism") == "organism":
        settings = {"adapters": "hypernetwork", "items": "organism", **ORGANISM, **settings}
    return Plan(**settings)


def read_plan(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """The settings of a TOML plan, to be completed by the command line. Raises PlanError for what it does not know.

    Unless the file is trusted, a Plan made of its settings raises PlanError where its words name code to run: whoever wrote
    the file would decide what is run here.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() and not path.is_dir():
            raise PlanError(f"{path}: a pipe or a device, which may never end; --config takes a TOML file")
        if size > LARGEST:
            raise PlanError(f"{path}: {size:,} bytes; a plan has at most {LARGEST:,}")
        text = path.read_text(encoding="utf-8-sig")
        if _LONG_KEY.search(text):
            raise PlanError(f"{path}: a key of 100 parts or more (a.b.c...); a plan's keys are one word")
        table = tomllib.loads(text)
    except PlanError:
        raise
    except OSError as fault:
        raise PlanError(f"{path}: cannot be read: {fault.strerror or fault}; --config takes a TOML file") from fault
    except (ValueError, RecursionError) as fault:  # no UTF-8, no TOML, an integer of thousands of digits
        raise PlanError(f"{path}: cannot be read as a TOML plan: {fault}") from fault
    settings = {f.name: f for f in fields(Plan)}
    for key, value in table.items():
        if key not in settings:
            near = difflib.get_close_matches(key, settings, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise PlanError(f"{path}: unknown key {key!r}{hint} Known: {', '.join(settings)}")
        lists = dict.fromkeys(("probes", "temperatures", "references"), list)
        texts = dict.fromkeys(("system_prompt", "chat_template", "adapter_map", "shared_adapter"), str)
        others = {"limit": int, "template_args": dict, "batch_size": str if value == "auto" else int}
        wanted = {**lists, **texts, **others}.get(key, type(settings[key].default))
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise PlanError(f"{path}: {key} needs {WORDS.get(wanted, wanted.__name__)}, got {value!r}")
    parse = {"probes": tuple, "temperatures": tuple, "references": partial(_references, path)}
    read = {key: parse[key](value) if key in parse else value for key, value in table.items()}
    return read if trust else {key: FromFile(value) if key in MARKED else value for key, value in read.items()}


def _references(path: Path, tables: list[Any]) -> tuple[Reference, ...]:
    """The tables `[[references]]` of a plan file. Raises PlanError, which names the one that is wrong."""
    references = []
    for number, table in enumerate(tables, 1):
        try:
            references.append(reference_from(table))
        except (ValueError, TypeError) as fault:
            raise PlanError(f"{path}: references, number {number}: {fault}") from fault
    return tuple(references)


@cache
def code_hash() -> str:
    """SHA-256 over the measuring code (margins and probes): readings of other code are never reused."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for package in ("margins", "probes"):
        for file in sorted((root / package).rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()


def content_key(*parts: Any) -> str:
    """A short hash of what is measured and how: the same on any machine and in any order."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]

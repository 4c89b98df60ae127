"""Which chat template questions go through, with what settings, and on what date."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from override_gap.margins.items.item import ItemError
from override_gap.probes.plan import LARGEST, Plan, PlanError

#: The setting that fixes the date which a template prints; the name of the function by which templates ask for it.
DATE = "strftime_now"
_DATE_CALL = re.compile(DATE + r"\(\s*(?P<quote>['\"])(?P<format>.{0,200}?)(?P=quote)\s*\)")
"""A format has few characters; without a limit, a template of 1 MiB of calls that do not end would be searched for minutes."""


@dataclass(frozen=True)
class ChatSettings:
    """How questions go through a chat template.

    `system` is the text of a system turn. `template` replaces the tokenizer's own; `template_name` chooses one of several
    that the tokenizer has. `args` are settings of the template itself, as JSON values (`enable_thinking`: false). `day` is the
    date, as YYYY-MM-DD, for a template that prints today's: a run keeps the day on which it began.
    """

    system: str | None = None
    template: str | None = None
    template_name: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    day: str | None = None


def chat_settings(plan: Plan) -> ChatSettings:
    """How a plan puts questions through the chat template; its file is read here. Raises PlanError."""
    args = dict(plan.template_args)
    day = args.pop(DATE, None)
    if day is not None:
        try:
            day = date.fromisoformat(day).isoformat()
        except (TypeError, ValueError) as fault:
            raise PlanError(f"--template-arg {DATE} fixes the date and needs YYYY-MM-DD, got {day!r}") from fault
    template, name = None, None
    if plan.chat_template is not None:
        file = Path(plan.chat_template)
        if file.is_file():
            template = read_template(file)
        elif file.is_dir() or not plan.chat_template.replace("-", "_").isidentifier():
            raise PlanError(f"--chat-template {plan.chat_template}: no such file; need a Jinja template")
        else:
            name = plan.chat_template
    return ChatSettings(plan.system_prompt, template, name, args, day)


def read_template(file: Path) -> str:
    """A chat template from a file: Jinja, or a JSON file that holds one as `chat_template`. Raises PlanError."""
    try:
        if file.stat().st_size > LARGEST:
            raise PlanError(
                f"--chat-template {file}: {file.stat().st_size:,} bytes; a template has at most {LARGEST:,}"
            )
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as fault:
        if isinstance(fault, PlanError):
            raise
        raise PlanError(f"--chat-template {file}: cannot be read as text: {fault}") from fault
    if file.suffix == ".json":
        try:
            text = json.loads(text)["chat_template"]
        except (ValueError, TypeError, LookupError, RecursionError) as fault:
            raise PlanError(f"--chat-template {file}: holds no chat_template; need a Jinja template") from fault
        if not isinstance(text, str):
            raise PlanError(f"--chat-template {file}: its chat_template is no text; need a Jinja template")
    if not text.strip():
        raise PlanError(f"--chat-template {file}: the file is empty; need a Jinja template")
    return text


def template_text(tokenizer: Any, settings: ChatSettings) -> str:
    """The template that is used. Raises ItemError where there is none, or several of which none is the default."""
    if settings.template is not None:
        return settings.template
    own = getattr(tokenizer, "chat_template", None)
    if not own:
        needed_by = "an item with chat set" if settings.system is None else "--system-prompt"
        raise ItemError(
            f"{needed_by} needs a chat template, but the subject's tokenizer has no chat template; give --chat-template FILE"
        )
    if isinstance(own, str):
        if settings.template_name is not None:
            raise ItemError(
                f"--chat-template {settings.template_name}: no such file, and the subject's one template has no name"
            )
        return own
    named = dict(own) if isinstance(own, Mapping) else {each["name"]: each["template"] for each in own}
    name = settings.template_name or "default"
    if name not in named:
        which = "no template is the default" if settings.template_name is None else f"no template {name!r}"
        raise ItemError(f"the subject's tokenizer has {which}; give --chat-template FILE or one of {', '.join(named)}")
    return str(named[name])


def template_hash(template: str) -> str:
    """The SHA-256 of a template's text."""
    return hashlib.sha256(template.encode()).hexdigest()


def prints_date(template: str) -> bool:
    """Whether a template asks for today's date."""
    return DATE in template


def dated(template: str, day: str | None) -> str:
    """A template whose calls for today's date are the given day's, so that a prompt does not change overnight."""
    if day is None or DATE not in template:
        return template
    fixed = date.fromisoformat(day)
    return _DATE_CALL.sub(lambda call: json.dumps(fixed.strftime(call["format"]), ensure_ascii=False), template)

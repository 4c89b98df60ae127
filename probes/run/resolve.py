"""A plan resolved once: its conditions parsed, its items opened, grouped and hashed; this is handed down to all that run it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.conditions import Condition
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.null_documents import NullDocuments
from override_gap.margins.runtime import NO_AMPLITUDE, NO_UPDATE, ONE_ADAPTER
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.readings.generation import Sampling
from override_gap.probes.run.answers import ANSWER_PROBES
from override_gap.probes.run.rows import meta_text
from override_gap.probes.subject.chat_template import ChatSettings, chat_settings

#: How many items show how the model begins its answers.
CHAT_SAMPLE = 16
#: Conditions of a run, the base among them: so many that statistics and page of a small run are made in minutes.
MOST_CONDITIONS = 1_000
#: Probes that read weight updates, layer by layer or at other gains.
NEED_UPDATES = ("layers", "causal", "gain-path", "components", "search", "critical", "prior-dose")


@dataclass(frozen=True)
class BasePriors:
    """What came of asking the base for old answers: `asked` conflicts without one, of which `filled` have one now.

    `long` of these are sentences rather than short answers. `excluded` has a row per item that is left out: its id, the
    `reason` and the base's `answer`. `key` names what was asked, and of which model.
    """

    key: str
    asked: int
    filled: int
    long: int
    excluded: tuple[dict[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """Counts, for the manifest."""
        reasons = Counter(row["reason"] for row in self.excluded)
        rows = [{"reason": reason, "count": count} for reason, count in reasons.most_common()]
        return {"from": "base", "asked": self.asked, "filled": self.filled, "long": self.long, "excluded": rows}


@dataclass(frozen=True)
class ResolvedPlan:
    """What is measured of a plan, and what is refused: rows of `condition` or `probe` with their `reason`.

    An item has `chat` set where its question goes through the chat template, as `chat` says how.
    """

    plan: Plan
    conditions: tuple[Condition, ...]
    probes: frozenset[str]
    items: ItemSet
    refused: tuple[dict[str, str], ...] = ()
    chat: ChatSettings = field(default_factory=ChatSettings)
    priors: BasePriors | None = None

    def for_source(
        self, *, static: bool, unread: Sequence[Mapping[str, str]] = (), scope: str = "document"
    ) -> ResolvedPlan:
        """What a source supports: all of it, or for one that is no weight update what needs neither a gain nor an update.

        `unread`: what cannot be read of the subject, rows of `probe` and `reason`; it is refused where the plan asks for it.
        `scope` is the source's: with one adapter for every document no condition can compare it with another document's.
        """
        if scope == "nothing":
            comparing = [c for c in self.conditions if c.needs_partner or c.needs_mean]
            one = [{"condition": c.name, "reason": ONE_ADAPTER} for c in comparing]
            others = tuple(c for c in self.conditions if c not in comparing)
            return replace(self, conditions=others, refused=(*self.refused, *one)).for_source(
                static=static, unread=unread
            )
        if static:
            refused = [dict(row) for row in unread if row["probe"] in self.probes]
            return replace(self, refused=(*self.refused, *(row for row in refused if row not in self.refused)))
        refused = [{"condition": c.name, "reason": NO_AMPLITUDE} for c in self.conditions if c.needs_gain]
        refused += [{"probe": probe, "reason": NO_AMPLITUDE} for probe in NEED_UPDATES if probe in self.probes]
        refused += [{"condition": c.name, "reason": NO_UPDATE} for c in self.conditions if c.needs_update]
        supported = tuple(c for c in self.conditions if not c.needs_gain and not c.needs_update)
        probes = self.probes - set(NEED_UPDATES)
        # asked a second time, of what is left, it refuses nothing more
        return replace(self, conditions=supported, probes=probes, refused=(*self.refused, *refused))

    def require_layers(self, count: int) -> None:
        """Raise PlanError where a policy gives gains layer by layer for another number of layers than the model's."""
        for condition in self.conditions:
            given = condition.given_layers
            if given not in (None, count):
                raise PlanError(
                    f"policy {condition.name[:60]}: it gives gains for {given} layers, the model has {count}; give GAINxCOUNT "
                    "for all of them"
                )

    def on_day(self, day: str) -> ResolvedPlan:
        """The same plan with the date that a chat template prints, YYYY-MM-DD, unless the plan fixes another."""
        return replace(self, chat=replace(self.chat, day=self.chat.day or day))

    @property
    def all_in_chat(self) -> bool:
        """Whether every question goes through the chat template, so that none can be measured where it fails."""
        return all(item.chat for item in self.items.items)

    @property
    def chat_sample(self) -> tuple[Item, ...]:
        """The items by which it is checked how the model is asked through its template; none where no question is.

        They lie evenly over all of them.
        """
        asked = [item for item in self.items.items if item.chat]
        step = max(1, len(asked) // CHAT_SAMPLE)
        return tuple(asked[::step][:CHAT_SAMPLE])

    def with_priors(self, items: ItemSet, priors: BasePriors) -> ResolvedPlan:
        """The plan on items whose missing old answers are the base's own."""
        return replace(self, items=items, priors=priors)

    @property
    def nulls(self) -> NullDocuments | None:
        """The documents that null-other and null-mean compare with, chosen over the whole item set; None without either."""
        comparing = any(condition.needs_partner or condition.needs_mean for condition in self.conditions)
        return NullDocuments.of(self.items) if comparing else None

    @property
    def sampled(self) -> tuple[Sampling, ...]:
        """One sampling per temperature and draw; none unless the probe `sampled` is on."""
        plan = self.plan
        if "sampled" not in self.probes:
            return ()
        return tuple(Sampling(t, plan.seed, draw) for t in plan.temperatures for draw in range(plan.draws))

    @property
    def n_answers(self) -> int:
        """How many items are answered in words."""
        return self.plan.answers if ANSWER_PROBES & self.probes else 0

    @property
    def batch_size(self) -> int:
        """Items per forward pass; 0 means as many as fit in memory."""
        if self.plan.reference:
            return 1
        return 0 if self.plan.batch_size == "auto" else self.plan.batch_size


def resolve(plan: Plan, items: Sequence[Item] | None = None, *, drop_references: bool = False) -> ResolvedPlan:
    """Resolve a plan; its items are opened by name unless they are given. Raises PlanError, ItemError.

    A published share for a condition that is not measured would be shown nowhere: it is an error, or with
    `drop_references` it is left out.
    """
    try:
        conditions = parse_conditions(plan.named_conditions())
    except ValueError as fault:
        raise PlanError(str(fault)) from fault
    if len(conditions) > MOST_CONDITIONS:
        raise PlanError(
            f"{len(conditions):,} conditions, with the base and those that probes need; a run has at most {MOST_CONDITIONS:,}, "
            "since statistics and page are made for each: name fewer in --policies, or divide them among several runs"
        )
    measured = [condition.name for condition in conditions]
    if drop_references:
        plan = replace(plan, references=tuple(r for r in plan.references if r.condition in measured))
    for number, reference in enumerate(plan.references, 1):
        if reference.condition not in measured:
            near = difflib.get_close_matches(reference.condition, measured, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise PlanError(
                f"references, number {number}: condition {reference.condition!r} is not measured by this plan{hint} "
                f"Measured: {', '.join(measured)}"
            )
    if items is None:
        items = open_items(plan.items, from_base=plan.prior == "from-base")
        items = items[: plan.limit] if plan.limit else items
        if not items:
            raise ItemError(f"{plan.items}: no items to measure")
    item_set = ItemSet.of(items)
    if plan.in_chat:
        item_set = item_set.in_chat()
    elif (plan.chat_template or plan.template_args) and not any(item.chat for item in items):
        flag = "--chat-template" if plan.chat_template else "--template-arg"
        raise PlanError(f"{flag} would change nothing: no item has chat set; add --chat to ask all of them through it")
    _require_cluster(plan, item_set.items)
    return ResolvedPlan(plan, conditions, frozenset(plan.probes), item_set, chat=chat_settings(plan))


def _require_cluster(plan: Plan, items: Sequence[Item]) -> None:
    """Raise PlanError where --cluster names a field that no item has; the default may be absent."""
    if plan.cluster == Plan.cluster or any(meta_text(item, plan.cluster) is not None for item in items):
        return
    names = sorted({name for item in items for name in item.meta if meta_text(item, name) is not None})
    had = f"their meta has {', '.join(names)}" if names else "they have no meta"
    raise PlanError(f"--cluster {plan.cluster}: no item has this field with a value; {had}")

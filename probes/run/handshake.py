"""Handshake: checks on a few documents, before an audit, that a source's adapters are what its method makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AdapterSource, AnyAdapter, SourceTraits, traits_of
from override_gap.margins.items.item import Document, Item, ItemError, documents_of
from override_gap.margins.runtime import Prefix
from override_gap.margins.text import plural
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, batched, final_states
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.prior import locate
from override_gap.probes.run.rows import not_finite
from override_gap.probes.sources.custom import encode_checked
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.parity import unit_roundoff
from override_gap.probes.subject.quantised import holds_its_weight
from override_gap.probes.subject.tokens import pad

MEANING = {
    "base": "the adapters are for this very model, by fingerprint",
    "fits": "every update has a place in the model, its shape, and is finite",
    "gain-zero": "gain 0 is the base to the last bit",
    "effect": "gain 1 changes the logits at the question",
    "native": "gain 1 is the method's own adapted model",
    "batch": "an adapter does the same in a batch as alone",
    "documents": "two documents give different adapters",
}


#: The largest share of an adapter's effect on the logits by which two routes to it may differ in a format of few digits.
NATIVE_SHARE = 0.25


class HandshakeError(ValueError):
    """Adapters that are not what they should be; the message names each failed check with its numbers."""


@dataclass(frozen=True)
class Check:
    """One check: passed, failed, or not made (None), and the numbers that say why."""

    name: str
    passed: bool | None
    says: str


@dataclass(frozen=True)
class Handshake:
    """All checks of a source, and the Frobenius norms of each adapter's document and shared part, in weight units."""

    checks: tuple[Check, ...]
    norms: tuple[tuple[float, float], ...] = ()
    left_out: tuple[str, ...] = ()
    """What the adapters change that is not measured; see `Adapter.left_out`."""
    notes: tuple[str, ...] = ()
    """What the source says of these documents; see `SourceTraits.notes_on`."""

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if check.passed is False]

    def require(self) -> None:
        """Raise HandshakeError if any check failed."""
        if self.failed:
            raise HandshakeError("; ".join(f"handshake {check.name} failed: {check.says}" for check in self.failed))


def check_adapters(
    subject: Subject,
    source: AdapterSource,
    items: Sequence[Item],
    documents: int = 2,
    chat: ChatSettings | None = None,
) -> Handshake:
    """Check a source on the first items whose documents differ. Raises ItemError where no item can be read.

    `chat` is how items with `chat` set are put through the chat template.
    """
    subject = subject if chat is None else replace(subject, chat=chat)
    traits, chosen = traits_of(source), _first_readable(subject, items, documents)
    checks = [_check_base(subject, traits)]
    # the documents as the audit encodes them, with all that is asked of each
    by_text = {document.text: document for document in documents_of(items)}
    encoded = [by_text[item.document] for item in chosen]
    try:
        adapters = encode_checked(source, encoded)
        batched(subject, adapters, [1] * len(adapters))
        base = _logits(subject, chosen, adapters, None)
        with_adapters = _logits(subject, chosen, adapters, 1.0)
    except AdapterError as fault:
        return Handshake((*checks, Check("fits", False, str(fault))))
    weights = [adapter for adapter in adapters if isinstance(adapter, Adapter)]
    fits = f"{len(weights[0].paths)} places in the first" if weights else "run as delivered, not a weight update"
    left_out = tuple(dict.fromkeys(place for adapter in weights for place in adapter.left_out))
    rest = f"; {left_out_in_words(left_out)}" if left_out else ""
    checks.append(Check("fits", True, f"{len(adapters)} adapters, {fits}{rest}"))
    # a method that is not a weight update is not entered at gain 0: what is compared is whether its last run left a trace
    at_zero = _logits(subject, chosen, adapters, 0.0 if weights else None)
    alone = torch.cat([_logits(subject, [i], [a], 1.0) for i, a in zip(chosen, adapters, strict=True)])
    difference = _largest_difference(base, at_zero)
    says = f"logits differ from the base's by {difference:.3g} nats; need exactly 0"
    checks.append(Check("gain-zero", torch.equal(base, at_zero), says))
    if not bool(torch.stack([with_adapters, alone]).isfinite().all()):
        advice = "" if subject.coarsest_dtype == torch.float32 else "; use --dtype float32"
        return Handshake((*checks, Check("effect", False, f"with the adapters {not_finite(subject)}{advice}")))
    tolerance = _two_routes_tolerance(subject, base)
    checks += [
        _check_effect(subject, adapters, (with_adapters - base).abs().amax(-1), tolerance),
        _check_native(subject, traits, chosen, encoded, alone, base, tolerance),
        _check_batch(subject, chosen, adapters, base, _largest_difference(with_adapters, alone), tolerance),
        _check_documents(traits, adapters),
    ]
    norms = tuple((a.norm("document"), a.norm("shared")) for a in weights)
    return Handshake(tuple(checks), norms, left_out, tuple(traits.notes_on(encoded)) if traits.notes_on else ())


def left_out_in_words(left_out: Sequence[str]) -> str:
    """What adapters change that is not measured, in words."""
    shown = "; ".join(left_out[:3]) + ("; ..." if len(left_out) > 3 else "")
    return f"{plural(len(left_out), 'part')} of the adapters left out: {shown}"


def _first_readable(subject: Subject, items: Sequence[Item], count: int) -> list[Item]:
    """One readable item for each of the first documents."""
    chosen: dict[str, Item] = {}
    first_reason = ""
    for item in items:
        if len(chosen) == count:
            break
        if not item.document.strip() or item.document in chosen:
            continue
        try:
            locate(subject, item)
        except ItemError as reason:
            first_reason = first_reason or f"; item {item.id}: {reason}"
            continue
        chosen[item.document] = item
    if not chosen:
        raise ItemError(
            f"none of the first {len(items)} items can be read on {subject.name}, so no adapter can be checked{first_reason}"
        )
    return list(chosen.values())


def _text(subject: Subject, item: Item) -> str:
    return subject.chat_prompt(item.question) if item.chat else item.question


@torch.no_grad()
def _logits(
    subject: Subject, items: Sequence[Item], adapters: Sequence[AnyAdapter], gain: float | None
) -> Float[Tensor, "batch vocab"]:
    """Logits at each question's last token; the base's own where the gain is None."""
    ids, mask = pad([subject.tokenize(_text(subject, item), special=not item.chat) for item in items])
    last, none = mask.sum(1) - 1, torch.zeros(len(items), dtype=torch.long)
    batch = Batch(*(tensor.to(subject.device) for tensor in (ids, mask, last, none)))
    if gain is None:
        return subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0]).cpu()
    together = batched(subject, adapters, mask.sum(1).tolist())
    if isinstance(together, RuntimeBatch):
        return subject.logits(final_states(subject, batch, together, range(len(items)))).cpu()
    gains = torch.full((len(items), subject.n_layers), gain)
    with attached(subject, together, gains):
        return subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0]).cpu()


def _two_routes_tolerance(subject: Subject, logits: Float[Tensor, "batch vocab"]) -> float:
    """How far logits by two routes (in a batch or alone, beside the weights or merged into them) may differ, nats.

    In float32 that of the subject's parity. In bfloat16 and float16 both routes round every layer otherwise: on SmolLM2 an
    adapter merged into the weights gave logits up to 4.5 u times the largest away, u the unit roundoff; 8 u are allowed.
    """
    if subject.coarsest_dtype == torch.float32:
        return subject.parity_tolerance()
    return max(1e-3, 8 * unit_roundoff(subject.coarsest_dtype) * logits.abs().max().item())


def _check_batch(
    subject: Subject,
    items: Sequence[Item],
    adapters: Sequence[AnyAdapter],
    base: Float[Tensor, "batch vocab"],
    difference: float,
    tolerance: float,
) -> Check:
    """Whether an adapter does the same in a batch as alone; not to be told on a quantised base that rounds a batch together."""
    says = f"batch and single differ by {difference:.3g} nats; need at most {tolerance:.3g}"
    quantised = not all(holds_its_weight(site.module) for site in subject.sites.values())
    if difference <= tolerance or not quantised:
        return Check("batch", difference <= tolerance, says)
    single = torch.cat([_logits(subject, [i], [a], None) for i, a in zip(items, adapters, strict=True)])
    own = _largest_difference(base, single)
    if own <= tolerance:
        return Check("batch", False, says)
    return Check(
        "batch",
        None,
        f"batch and single differ by {difference:.3g} nats, but the base itself by {own:.3g}: its quantised maps round a batch "
        "together; audit with --batch-size 1",
    )


def _check_effect(
    subject: Subject, adapters: Sequence[AnyAdapter], moved: Float[Tensor, " batch"], tolerance: float
) -> Check:
    """The adapters move logits by more than rounding does; both passes have one shape, so rounding is half of `tolerance`."""
    advice = ""
    if subject.coarsest_dtype != torch.float32:
        tolerance, advice = tolerance / 2, "; a weaker one can be read with --dtype float32"
    weakest, strongest = moved.min().item(), moved.max().item()
    if not all(isinstance(adapter, Adapter | Prefix) for adapter in adapters) and weakest <= tolerance:
        # a method that looks at its input may well leave some questions alone
        says = f"on the question it moves most, a logit moves by {strongest:.3g} nats, and it may leave questions alone"
        return Check("effect", True if strongest > tolerance else None, says)
    says = f"the weakest adapter moves a logit by {weakest:.3g} nats; need more than {tolerance:.3g}{advice}"
    return Check("effect", weakest > tolerance, says)


def _largest_difference(left: Tensor, right: Tensor) -> float:
    return (left - right).abs().max().item()


def _check_base(subject: Subject, traits: SourceTraits) -> Check:
    if traits.base_fingerprint is None:
        return Check("base", None, "the source does not say which model its adapters are for")
    same = traits.base_fingerprint == subject.fingerprint
    return Check("base", same, f"adapters for {traits.base_fingerprint[:12]}, subject {subject.fingerprint[:12]}")


def _check_native(
    subject: Subject,
    traits: SourceTraits,
    items: Sequence[Item],
    documents: Sequence[Document],
    ours: Float[Tensor, "batch vocab"],
    base: Float[Tensor, "batch vocab"],
    tolerance: float,
) -> Check:
    """The method's own logits against ours; a wrong scale or a transposed square weight shows only here.

    In bfloat16 and float16, whose rounding is large, the difference must also be small beside what the adapter does: on
    SmolLM2 it was 7% of that by root mean square, and twice the scale makes it 50% and more.
    """
    if traits.native_logits is None:
        return Check("native", None, "the source offers no native_logits: a wrong scale cannot be noticed")
    outputs = [traits.native_logits(d, _text(subject, i)).float().cpu() for d, i in zip(documents, items, strict=True)]
    theirs = torch.stack([logits.reshape(-1, logits.shape[-1])[-1] for logits in outputs])
    if theirs.shape != ours.shape:
        return Check("native", False, f"native logits have shape {list(theirs.shape)}, need {list(ours.shape)}")
    gap = _largest_difference(theirs, ours)
    says = f"logits differ by {gap:.3g} nats; need at most {tolerance:.3g}"
    if subject.coarsest_dtype == torch.float32 or not gap <= tolerance:
        return Check("native", gap <= tolerance, says)
    share = ((theirs - ours).square().mean().sqrt() / (ours - base).square().mean().sqrt()).item()
    says += f", and {100 * share:.0f}% of what the adapters move; need at most {100 * NATIVE_SHARE:.0f}%"
    return Check("native", share <= NATIVE_SHARE, says)


def _check_documents(traits: SourceTraits, adapters: Sequence[AnyAdapter]) -> Check:
    if traits.scope == "nothing" or len(adapters) < 2:
        why = "one adapter serves every document" if traits.scope == "nothing" else "only one document was given"
        return Check("documents", None, why)
    comparable = [adapter for adapter in adapters if isinstance(adapter, Adapter | Prefix)]
    if len(comparable) < len(adapters):
        return Check("documents", None, "adapters that are neither weight updates nor prefixes cannot be compared")
    different = len({adapter.hash() for adapter in comparable})
    return Check(
        "documents", different == len(adapters), f"{different} different adapters for {len(adapters)} documents"
    )

"""Handshake: checks on a few documents, before an audit, that a source's adapters are what its method makes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AdapterSource, AnyAdapter, NativeExample, SourceTraits, traits_of
from override_gap.margins.items.item import Document, Item, ItemError, documents_of
from override_gap.margins.runtime import Prefix
from override_gap.margins.text import plural
from override_gap.probes.attach.runtime import batched
from override_gap.probes.environment import current_folder_last
from override_gap.probes.errors import AdapterChanged, AdapterError, as_adapter_error
from override_gap.probes.readings.prior import locate
from override_gap.probes.run.checks import Check, Handshake, Scale
from override_gap.probes.run.encoded_alone import encoded_alone
from override_gap.probes.run.last_logits import last_logits, two_routes_tolerance
from override_gap.probes.run.native import NONE_OFFERED, NativeComparison
from override_gap.probes.run.native_tokens import check_tokens
from override_gap.probes.run.rows import not_finite
from override_gap.probes.sources.custom import at_the_last, encode_checked, require_plain_settings
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.quantised import holds_its_weight

#: Documents of which the handshake looks for two that the source can read.
MOST_TRIED = 16
#: A document, its adapter, and a question about it as text and as tokens.
Asking = tuple[Document, AnyAdapter, str, Sequence[int]]


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
    unread = Scale(None, None, "not verified: the adapters did not get that far")
    try:
        require_plain_settings(source, "settings")
        started = time.monotonic()
        chosen, adapters = _encoded(subject, source, items, chosen, by_text)
        encode_s = (time.monotonic() - started) / len(chosen)
        encoded = [by_text[item.document] for item in chosen]
        questions = [_text(subject, item) for item in chosen]
        ids = [subject.tokenize(text, special=not item.chat) for text, item in zip(questions, chosen, strict=True)]
        batched(subject, adapters, [1] * len(adapters))
        base = last_logits(subject, ids, adapters, None)
        with_adapters = last_logits(subject, ids, adapters, 1.0)
    except AdapterError as fault:
        return Handshake((*checks, Check("fits", False, str(fault))), unread)
    weights = [adapter for adapter in adapters if isinstance(adapter, Adapter)]
    fits = f"{len(weights[0].paths)} places in the first" if weights else "run as delivered, not a weight update"
    left_out = tuple(dict.fromkeys(place for adapter in weights for place in adapter.left_out))
    rest = f"; {left_out_in_words(left_out)}" if left_out else ""
    checks.append(Check("fits", True, f"{len(adapters)} adapters, {fits}{rest}"))
    # a method that is not a weight update is not entered at gain 0: what is compared is whether its last run left a trace
    at_zero = last_logits(subject, ids, adapters, 0.0 if weights else None)
    alone = torch.cat([last_logits(subject, [row], [a], 1.0) for row, a in zip(ids, adapters, strict=True)])
    difference = _largest_difference(base, at_zero)
    says = f"logits differ from the base's by {difference:.3g} nats; need exactly 0"
    checks.append(Check("gain-zero", torch.equal(base, at_zero), says))
    if not bool(torch.stack([with_adapters, alone]).isfinite().all()):
        advice = "" if subject.coarsest_dtype == torch.float32 else "; use --dtype float32"
        return Handshake((*checks, Check("effect", False, f"with the adapters {not_finite(subject)}{advice}")), unread)
    tolerance = two_routes_tolerance(subject, base, subject.coarsest_dtype)
    checks.append(_check_effect(subject, adapters, (with_adapters - base).abs().amax(-1), tolerance))
    asked = list(zip(encoded, adapters, questions, ids, strict=True))
    if not traits.static and traits.native_logits is not None:
        asked += _asked_again(subject, items, chosen, asked)
    native, scale = _check_native(subject, source, traits, asked)
    checks += [
        *native,
        _check_batch(subject, ids, adapters, base, _largest_difference(with_adapters, alone), tolerance),
        _check_documents(traits, adapters),
    ]
    norms = tuple((a.norm("document"), a.norm("shared")) for a in weights)
    notes = tuple(traits.notes_on(tuple(by_text.values()))) if traits.notes_on else ()
    return Handshake(tuple(checks), scale, norms, left_out, notes, encode_s)


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


def _encoded(
    subject: Subject, source: AdapterSource, items: Sequence[Item], chosen: list[Item], by_text: Mapping[str, Document]
) -> tuple[list[Item], list[AnyAdapter]]:
    """The chosen items with their documents' adapters; where a source makes none of a document, others.

    An audit makes error rows of such a document's items; that it comes first must not end the run. Raises AdapterError where
    no document of those that are tried has an adapter, and where a source is only asked for whole batches.
    """
    try:
        return chosen, encode_checked(source, [by_text[item.document] for item in chosen])
    except AdapterChanged:
        raise
    except AdapterError as fault:
        if traits_of(source).scope == "batch":
            raise
        reason = fault
    readable: list[Item] = []
    for item in _first_readable(subject, items, MOST_TRIED):
        try:
            encode_checked(source, [by_text[item.document]])
        except AdapterChanged:
            raise
        except AdapterError:
            continue
        readable.append(item)
        if len(readable) == len(chosen):
            break
    if not readable:
        raise reason
    return readable, encode_checked(source, [by_text[item.document] for item in readable])


def _asked_again(
    subject: Subject, items: Sequence[Item], chosen: Sequence[Item], asked: Sequence[Asking]
) -> list[Asking]:
    """One more readable question about each document, of another length where there is one.

    What a method that looks at its input does on one question says little of another: one that looks at a fixed token is
    right on the question that it was made from.
    """
    again = []
    for item, (document, adapter, _, ids) in zip(chosen, asked, strict=True):
        others = [other for other in items if other.document == item.document and other.question != item.question]
        found = [(_text(subject, other), other) for other in others if _is_readable(subject, other)]
        rows = [(text, subject.tokenize(text, special=not other.chat)) for text, other in found]
        if rows:
            again.append((document, adapter, *next((row for row in rows if len(row[1]) != len(ids)), rows[0])))
    return again


def _is_readable(subject: Subject, item: Item) -> bool:
    try:
        locate(subject, item)
    except ItemError:
        return False
    return True


def _text(subject: Subject, item: Item) -> str:
    return subject.chat_prompt(item.question) if item.chat else item.question


def _check_batch(
    subject: Subject,
    ids: Sequence[Sequence[int]],
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
    single = torch.cat([last_logits(subject, [row], [a], None) for row, a in zip(ids, adapters, strict=True)])
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
    source: AdapterSource,
    traits: SourceTraits,
    asked: Sequence[Asking],
) -> tuple[list[Check], Scale]:
    """The method's own logits against ours, on these questions and on what the source has stored.

    A wrong scale, a transposed square weight or another document's adapter shows only here.
    """
    what, stored, examples = f"source {source.name}", [], []
    try:
        if traits.native_examples is not None:
            with as_adapter_error(f"{what}: native_examples failed"), current_folder_last():
                stored = list(traits.native_examples())
        if traits.native_logits is not None:
            with as_adapter_error(f"{what}: native_logits failed"), current_folder_last():
                outputs = [traits.native_logits(document, text) for document, _, text, _ in asked]
            last = [at_the_last(source, logits) for logits in outputs]
            examples = [
                NativeExample(adapter, tuple(ids), text, logits)
                for (_, adapter, text, ids), logits in zip(asked, last, strict=True)
            ]
        if not stored and not examples:
            return [Check("native", None, NONE_OFFERED)], Scale(None, None, f"not verified: {NONE_OFFERED}")
        tokens = [check_tokens(subject, stored)] if stored else []
        if tokens and tokens[0].passed is False:
            return tokens, Scale(False, None, f"not verified: {tokens[0].says}")
        about = (
            *(document.text[:40] for document, *_ in asked if examples),
            *(example.adapter.name for example in stored),
        )
        native, scale = NativeComparison(subject, (*examples, *stored), about)()
        if native.passed is False and examples and traits.scope == "document":
            alone = encoded_alone(source, examples, [document for document, *_ in asked])
            if alone is not None:
                second, scale_alone = NativeComparison(subject, (*alone.examples, *stored), about)()
                if second.passed:
                    says = f"{second.says}; {alone.says}"
                    return [*tokens, replace(second, says=says)], replace(
                        scale_alone, says=f"{scale_alone.says}; {alone.says}"
                    )
        return [*tokens, native], scale
    except AdapterError as fault:
        return [Check("native", False, str(fault))], Scale(False, None, f"not verified: {fault}")


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

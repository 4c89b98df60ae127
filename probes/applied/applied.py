"""`applied`: a live model under adapters at a policy's gains, for forward passes and `generate`, with no trace on leaving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from override_gap.margins.adapter import Adapter, AdapterSource
from override_gap.margins.gain_policies import Policy
from override_gap.margins.named_policy import NamedPolicy, named_policy
from override_gap.probes.applied.gains import PolicyInUse
from override_gap.probes.applied.given import adapters_of
from override_gap.probes.applied.known import Answers, Documents, known_of
from override_gap.probes.applied.peft_model import is_peft, switched_off
from override_gap.probes.applied.running import AppliedModel, Running
from override_gap.probes.attach.stack import check
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.fingerprint import subject_fingerprint
from override_gap.probes.subject.live_model import LiveModel, UnwrappedModel
from override_gap.probes.subject.model import Subject

Adapters = Adapter | Sequence[Adapter] | AdapterSource | str | Path | None


@contextmanager
def applied(
    model: Any,
    adapters: Adapters,
    policy: str | Path | float | Policy,
    *,
    documents: Documents | None = None,
    answers: Answers | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    question_of: Callable[[str], str] = str,
) -> Iterator[AppliedModel]:
    """Run a Hugging Face causal model under adapters at the gains of a policy; on leaving, also after an error, no trace is left.

        with og.applied(model, "tuned-on-this-document", "uniform-1.5") as m:
            m.generate(**tokenizer(questions, return_tensors="pt", padding=True), max_new_tokens=64)

    `model`: any model of AutoModelForCausalLM, a Subject, or a PeftModel, whose own adapters do not act meanwhile (with
    `adapters=None` its active adapter is the one that is applied). `model(...)` and `model.generate(...)` run under the
    adapters inside the block, as `m(...)` and `m.generate(...)` do.
    `adapters`: an Adapter, or one per row of every batch; a PEFT folder or a compact file (.safetensors), or any source, whose
    adapters are those of `documents`. One adapter serves every row.
    `policy`: a condition's name, a Policy, or the path of a gains.json, which is refused where it was chosen on a model of
    another name, unless `tokenizer` is given and model and tokenizer are the same to the last bit.

    What a policy needs: uniform gains, gains per layer, slb and its controls nothing (random layers: `documents`); what compares
    words (relevance, effect-gated) `documents` and `tokenizer`; ca `tokenizer` and `answers`, what each document states (or
    `documents`: a base that says no word of the document is known to disagree; a conflict or novel Item gives both).
    `question_of` takes the question out of a prompt's text where more stands in it, as behind a chat template: words are
    compared with the question alone in an audit. `seed` is the audit's. A policy that looks at the question reads it at its
    last token, once per prompt: one pass of the base, and one more at its probe gain where it reads the adapter's effect.
    In `generate` its gains hold until the generation ends; in forward passes, as long as they continue the cache of the last
    one. Otherwise the tokens of a pass are a new question, so give the question alone, or call `m.ask(...)` with the question
    and `m(...)` with question and answer. `m.gains` are the last prompt's, [row, layer]; `m.cost` the extra passes so far.

    `m.generate(**inputs, **m.as_audited)` gives the strings that an audit stores as answer_text (pass `tokenizer`, whose end
    of text ends an answer too). Without these settings the model's generation config may add penalties, sampling or beams. In
    half precision the audit reads logits from a float32 product, so near ties may fall otherwise.

    Padding on the left (`generate`) or right, sampling, `num_return_sequences` and beam search are supported: beams and
    samples of a prompt have its adapter and gains. Assisted decoding, prefill in chunks, custom decoding loops, paged caches,
    static ones of padded batches and a cache from elsewhere are refused where the policy looks at the question. Raises
    AdapterError and SubjectError with one line.
    """
    subject = isinstance(model, Subject)
    inner = model.model if subject else model.get_base_model() if is_peft(model) else model
    if "generate" in vars(inner):
        raise AdapterError("the model is already inside og.applied; leave that block first")
    try:
        named = policy if isinstance(policy, NamedPolicy) else named_policy(policy)
    except ValueError as fault:
        raise AdapterError(str(fault)) from fault
    with ExitStack() as undo:
        if is_peft(model):
            undo.enter_context(switched_off(model))
        live: LiveModel = model if subject else UnwrappedModel.of(inner)
        _require_subject(named, live, model.tokenizer if subject and tokenizer is None else tokenizer)
        acting = adapters_of(model, live, adapters, documents)
        check(live, acting)
        known = known_of(documents, answers, len(acting))
        tokenizer = model.tokenizer if subject and tokenizer is None else tokenizer
        in_use = PolicyInUse.of(live, named, acting, known, tokenizer, seed, question_of)
        running = Running(live, acting, in_use)
        undo.enter_context(running)
        yield AppliedModel(inner if subject else model, running)


def _require_subject(named: NamedPolicy, live: LiveModel, tokenizer: Any) -> None:
    """Raise AdapterError where a gains.json was chosen on another model."""

    def fingerprint() -> str | None:
        if isinstance(live, Subject):
            return live.fingerprint
        return None if tokenizer is None else subject_fingerprint(live.model, tokenizer)

    # a model that was made from a configuration has no name
    name = live.name if isinstance(live, Subject) else str(getattr(live.model.config, "_name_or_path", ""))
    try:
        named.require_subject(name, fingerprint)
    except ValueError as fault:
        raise AdapterError(str(fault)) from fault

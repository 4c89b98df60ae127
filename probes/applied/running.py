"""Running a live model under adapters: attached before a pass, at the gains of its prompt, which hold for what continues it."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.probes.applied.cost import Cost
from override_gap.probes.applied.gains import PolicyInUse
from override_gap.probes.applied.prompt import CACHES, Prompt, cache_in, named_inputs, rows_and_width
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.generation import NEW_TOKENS, stops_of
from override_gap.probes.subject.live_model import LiveModel

#: Greedy decoding, with nothing that changes the arg max.
GREEDY = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "max_new_tokens": NEW_TOKENS,
}
#: Settings of `generate` under which the first pass is not the question alone, and what they are called.
NOT_THE_QUESTION = {
    "assistant_model": "assisted decoding",
    "prompt_lookup_num_tokens": "prompt lookup decoding",
    "assistant_early_exit": "early-exit decoding",
    "prefill_chunk_size": "a prefill in chunks",
    "custom_generate": "a decoding loop of your own",
}


class Running:
    """The state of a model inside `applied`: which adapters act at which gains, and for how long.

    Hooks are attached when a prompt begins and removed at the end of its pass, or of its generation. `gains` are those of the
    last prompt, [row, layer], None before the first.
    """

    def __init__(self, live: LiveModel, adapters: Sequence[Adapter], policy: PolicyInUse) -> None:
        self.live, self.adapters, self.policy = live, tuple(adapters), policy
        self.cost = Cost()
        self.gains: Float[Tensor, "batch layer"] | None = None
        self.numbers: list[int] = []
        self.held = False
        self._stack = stack(live, self.adapters)
        self._acting: ExitStack | None = None
        self._reading = False
        self._prompts: int | None = None
        """Rows of the prompt that `generate` was given; None outside it."""
        self._began = False
        self._cache: Callable[[], Any] = lambda: None
        self._undo = ExitStack()

    def __enter__(self) -> Running:
        model = self.live.model
        self._undo.callback(model.register_forward_pre_hook(self._before, with_kwargs=True).remove)
        self._undo.callback(model.register_forward_hook(self._after, with_kwargs=True, always_call=True).remove)
        vars(model)["generate"] = self._generating(model.generate)
        self._undo.callback(vars(model).pop, "generate")
        return self

    def __exit__(self, kind: Any, fault: Any, trace: Any) -> None:
        self._undo.close()
        self._release(kind, fault, trace)

    @contextmanager
    def attach(self, numbers: Sequence[int], gains: Float[Tensor, "batch layer"]) -> Iterator[None]:
        """The adapters of these numbers act, one per row, at these gains."""
        with attached(self.live, self._stack.only(numbers), gains.to(torch.float32)):
            yield

    def ask(self, inputs: Mapping[str, Any]) -> None:
        """Set the gains by these questions and hold them for all passes to come."""
        self._set(dict(inputs), every=1)
        self.held = True

    def _before(self, model: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Before a pass: attach the adapters, at the gains of a new prompt or of the one that the pass continues."""
        if self._reading:
            return
        inputs = named_inputs(model, args, named)
        rows, _ = rows_and_width(inputs)
        if self._prompts is not None:
            if not self._began:
                self._set(inputs, every=max(rows // self._prompts, 1))
                self._began = True
                self._attach(rows)
            return
        cache = cache_in(inputs)
        if not self.held and not (cache is not None and cache is self._cache()):
            if cache is not None and self.policy.fixed is None:
                raise AdapterError(
                    f"{self.policy.named.title} looks at the question, and the pass continues a cache whose question it has not "
                    "seen: give the whole text, or call m.ask(...) with the question first"
                )
            self._set(inputs, every=1)
        self._attach(rows)

    def _after(self, _model: Any, _args: Any, named: dict[str, Any], output: Any) -> None:
        """After a pass outside `generate`: take the adapters off, and remember the cache that it filled."""
        if self._reading or self._prompts is not None:
            return
        self._release()
        cache = next((c for n in CACHES if (c := getattr(output, n, None) or named.get(n)) is not None), None)
        try:
            self._cache = weakref.ref(cache) if cache is not None else lambda: None
        except TypeError:  # tuples of an older form cannot be referred to
            self._cache = lambda: None

    def _set(self, inputs: Mapping[str, Any], every: int) -> None:
        """Set the gains by the questions in a pass's inputs, of which `every` rows next to one another are one prompt."""
        rows, _ = rows_and_width(inputs)
        prompts = rows // every
        if len(self.adapters) not in (1, prompts):
            raise AdapterError(
                f"{len(self.adapters)} adapters were given, one per row, and the batch has {prompts} rows; give one for each, or "
                "one for all"
            )
        one = [0] * prompts if len(self.adapters) == 1 else list(range(prompts))
        self._reading = True
        try:
            if self.policy.fixed is None:
                prompt = Prompt.of(inputs, every)
                gains = self.policy.gains(self.live.model, prompt, one, self.attach, self.cost)
            else:
                gains = self.policy.fixed[one]
        finally:
            self._reading = False
        self.numbers = [number for number in one for _ in range(every)]
        self.gains = gains.repeat_interleave(every, 0)

    def _attach(self, rows: int) -> None:
        assert self.gains is not None
        if rows != len(self.gains):
            raise AdapterError(
                f"the gains are held for {len(self.gains)} rows, and the pass has {rows}; m.release() lets go of them"
            )
        self._release()
        self._acting = ExitStack()
        self._acting.enter_context(self.attach(self.numbers, self.gains))

    def _release(self, kind: Any = None, fault: Any = None, trace: Any = None) -> None:
        acting, self._acting = self._acting, None
        if acting is not None:
            acting.__exit__(kind, fault, trace)

    def _generating(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """`generate` of the model, which tells that one prompt's passes begin and end."""

        @functools.wraps(generate)
        def run(*args: Any, **named: Any) -> Any:
            if self._prompts is not None:
                return generate(*args, **named)
            self._refuse(named)
            first = args[0] if args else None
            given = next(
                (v for n in ("inputs", "input_ids", "inputs_embeds") if (v := named.get(n)) is not None), first
            )
            self._prompts, self._began = (len(self.adapters) if given is None else len(given)), False
            try:
                output = generate(*args, **named)
            except BaseException as fault:
                self._prompts = None
                self._release(type(fault), fault, fault.__traceback__)
                raise
            self._prompts = None
            self._release()
            return output

        return run

    def _refuse(self, named: Mapping[str, Any]) -> None:
        """Raise AdapterError for a generation whose first pass is not the question, where the policy looks at it."""
        config = named.get("generation_config") or self.live.model.generation_config
        setting = {
            name: named.get(name, getattr(config, name, None)) for name in (*NOT_THE_QUESTION, "cache_implementation")
        }
        if setting["cache_implementation"] == "paged":
            raise AdapterError("generate with a paged cache runs a loop of its own, which adapters here do not reach")
        if self.policy.fixed is not None:
            return
        title = self.policy.named.title
        for name, words in NOT_THE_QUESTION.items():
            if setting[name] is not None:
                raise AdapterError(
                    f"{title} looks at the question, which {words} ({name}) does not give it alone; leave it out"
                )
        if cache_in(named) is not None:
            raise AdapterError(
                f"{title} looks at the question, and past_key_values continues another text: give the whole text instead"
            )


class AppliedModel:
    """A model under adapters: call it, or its `generate`; everything else is the model's own."""

    def __init__(self, model: Any, running: Running) -> None:
        self._model, self._running = model, running

    def __call__(self, *args: Any, **named: Any) -> Any:
        """A forward pass of the model."""
        return self._model(*args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def gains(self) -> Float[Tensor, "batch layer"]:
        """The gains of the last prompt, one per row (beams and samples included) and layer. Raises AdapterError before one."""
        if self._running.gains is None:
            raise AdapterError("no prompt was run yet, so there are no gains")
        return self._running.gains

    @property
    def as_audited(self) -> dict[str, Any]:
        """Settings under which `generate` decodes as an audit does: greedy, no penalties, 64 tokens, the audit's stop tokens.

        What a call leaves open is taken from the model's generation config, which may set a penalty, sampling or beams, and may
        lack the tokenizer's own end of text, at which an audit stops too.
        """
        model = self._running.live.model
        stops = sorted(stops_of(model, self._running.policy.tokenizer))
        # named where the model's configuration names it alone: beside min_length transformers warns of it
        fewest = {} if model.generation_config.min_new_tokens is None else {"min_new_tokens": 0}
        return {**GREEDY, **fewest, "eos_token_id": stops}

    @property
    def cost(self) -> Cost:
        """The extra passes so far; printed, it says how many, for how many questions, and their seconds."""
        return self._running.cost

    def ask(self, inputs: Mapping[str, Any] | None = None, **named: Any) -> Float[Tensor, "batch layer"]:
        """Set the gains by these questions, `m.ask(**questions)`, and hold them for all passes until `m.release()`.

        For passes over more than the question: answers to be scored, say. Returns the gains, [row, layer].
        """
        self._running.ask({**(inputs or {}), **named})
        return self.gains

    def release(self) -> None:
        """Let go of the gains that `ask` set: every new prompt sets its own again."""
        self._running.held = False

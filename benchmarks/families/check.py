"""One family checked: each number against the plain model, its weights edited by hand, unpadded and without a cache."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from benchmarks.families.configs import VOCABULARY, build
from benchmarks.families.gguf_files import GGUF_FAMILIES, model_of, write_family
from benchmarks.families.plain import END, NEW_TOKENS, answer, edit, final_stream, frozen, last_logits, last_run
from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import Item
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.stack import stack
from override_gap.probes.environment import quietly
from override_gap.probes.errors import AdapterError, SubjectError
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.generation import generate
from override_gap.probes.readings.layers import read_direct, read_layers
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.structure import decoder_of

FINAL_NORMS = (
    "norm",
    "final_layernorm",
    "ln_f",
    "final_norm",
    "norm_f",
    "final_layer_norm",
    "layer_norm",
    "embedding_norm",
)
FINAL_NORMS += ("out_norm", "ln_out", "layernorm")
#: Three questions of different lengths, so that two rows of the batch are padded.
QUESTIONS = (range(3, 5), range(3, 16), range(20, 31))


@dataclass(frozen=True)
class FamilyRow:
    """What was measured on one family. Gaps are the largest absolute differences over the items, nats.

    `maps` and `adapter_gap` are of the kinds of linear map that could be changed, `refused_maps` says why others could not.
    `lens_gap` compares the attribution's sum with the plain model's margin, `direct_gap` the direct part of the last map of
    the last layer with the change of the plain model's stream. A gap is None where there is nothing to compare; `direct`
    then says why. `gguf_gap` compares the logits of a GGUF file with those of the weights written into it; None where
    transformers reads no GGUF of this family.
    `same_answers` counts, of base and adapted answers, those that equal the uncached loop.
    """

    model_type: str
    class_name: str
    refused: str | None = None
    prior_gap: float | None = None
    maps: tuple[str, ...] = ()
    adapter_gap: float | None = None
    refused_maps: Mapping[str, str] = field(default_factory=dict)
    layers: str | None = None
    lens_gap: float | None = None
    direct_gap: float | None = None
    direct: str | None = None
    same_answers: int | None = None
    n_answers: int = 0
    answers_refused: str | None = None
    gguf_gap: float | None = None


def check(model_type: str) -> FamilyRow:
    """Build, wrap and measure a family. What the toolkit refuses is in the row; any other exception is a fault and passes."""
    plain = build(model_type)
    name = type(plain).__name__
    items = [
        Item(f"i{n}", "p", "conflict", "w3 w4", " ".join(f"w{token}" for token in question), "w40", "w41")
        for n, question in enumerate(QUESTIONS)
    ]
    try:
        with quietly():
            subject = wrap(copy.deepcopy(plain), word_tokenizer(), model_type)
    except SubjectError as fault:
        return FamilyRow(model_type, name, refused=str(fault))
    prior = read_prior(subject, items, [locate(subject, item) for item in items], layers=True)
    base = torch.stack([last_logits(plain, question) for question in QUESTIONS])
    row: dict[str, Any] = {"prior_gap": gap(prior.logits, base), "gguf_gap": gguf_gap(model_type)}

    kinds: dict[str, list[str]] = {}
    for path in subject.sites:
        if layer_of(path) is not None:
            kinds.setdefault(kind(path), []).append(path)
    measured, refused, gaps = [], {}, []
    for map_kind, paths in kinds.items():
        try:
            found, expected = adapted(subject, prior, plain, paths)
        except AdapterError as fault:
            refused[map_kind] = str(fault)
            continue
        measured.append(map_kind)
        gaps.append(gap(found, expected - (base[:, 41] - base[:, 40])))
    row |= {"maps": tuple(measured), "adapter_gap": max(gaps, default=None), "refused_maps": refused}

    paths = [path for map_kind in measured for path in kinds[map_kind]]
    adapters = random_adapters(subject, paths)
    edited = [edit(plain, adapter) for adapter in adapters]
    row |= layer_gaps(subject, prior, plain, paths) if paths else {}
    try:
        ones = torch.ones(len(items), subject.n_layers)
        given = generate(subject, items, new_tokens=NEW_TOKENS)
        given += generate(subject, items, stack(subject, adapters), ones, new_tokens=NEW_TOKENS) if paths else []
        models = [plain] * len(items) + (edited if paths else [])
        greedy = [answer(m, subject.tokenizer, q) for m, q in zip(models, list(QUESTIONS) * 2, strict=False)]
        same = sum(a == b for a, b in zip(given, greedy, strict=True))
        row |= {"same_answers": same, "n_answers": len(greedy)}
    except SubjectError as fault:
        row["answers_refused"] = str(fault)
    return FamilyRow(model_type, name, **row)


def adapted(
    subject: Subject, prior: Prior, plain: Any, paths: Sequence[str]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Adapter margins of the batch as measured, and adapted margins of plain models with the same updates in their weights."""
    adapters = random_adapters(subject, paths)
    state = read_adapted(subject, prior, stack(subject, adapters), torch.ones(len(adapters), subject.n_layers))
    logits = [last_logits(edit(plain, a), q) for a, q in zip(adapters, QUESTIONS, strict=True)]
    return -state.margins.adapter.cpu(), torch.stack([z[41] - z[40] for z in logits])


@torch.no_grad()
def layer_gaps(subject: Subject, prior: Prior, plain: Any, paths: Sequence[str]) -> dict[str, Any]:
    """How far attribution and `direct` are from what the plain model's own stream says."""
    ones = torch.ones(len(QUESTIONS), subject.n_layers)
    whole = random_adapters(subject, paths)
    state = read_adapted(subject, prior, stack(subject, whole), ones, layers=True)
    try:
        profile = read_layers(subject, prior, state)
    except SubjectError as fault:
        return {"layers": str(fault)}
    logits = torch.stack([last_logits(edit(plain, a), q) for a, q in zip(whole, QUESTIONS, strict=True)])
    if subject.cap is not None:
        logits = subject.cap * torch.atanh(logits / subject.cap)
    gaps: dict[str, Any] = {"lens_gap": gap(profile.attribution.sum(1), logits[:, 41] - logits[:, 40])}

    writers = [p for p in paths if layer_of(p) == subject.n_layers - 1 and subject.sites[p].d_out == subject.d_model]
    names = [name for name, _ in decoder_of(plain).named_modules() if not any(c.isdigit() for c in name)]
    norm = next((name for name in names if name.rpartition(".")[2] in FINAL_NORMS), None)
    if norm is None or not writers:
        missing = "final norm by a name that this check knows" if norm is None else "map of the stream's width"
        return gaps | {"direct": f"not compared, there is no {missing}"}
    path = last_run(plain, writers, QUESTIONS[0])
    if reason := subject.stream.reason([path]):
        return gaps | {"direct": reason}
    adapters = random_adapters(subject, [path])
    state = read_adapted(subject, prior, stack(subject, adapters), ones, layers=True)
    direct = read_direct(subject, prior, state)
    assert direct is not None, path
    direction, _ = subject.margin_direction(prior.pre, prior.doc)
    direct_gaps = []
    for n, (adapter, question) in enumerate(zip(adapters, QUESTIONS, strict=True)):
        edited = edit(plain, adapter)
        before, later = final_stream(plain, norm, question, path)
        after, _ = final_stream(edited, norm, question, path)
        without_reaction, _ = final_stream(edited, norm, question, path, replayed=later)
        added = frozen(decoder_of(edited).get_submodule(norm), after, without_reaction - before)
        direct_gaps.append(abs(float(direct[n, -1]) + float(added @ direction[n])))
    return gaps | {"direct_gap": max(direct_gaps)}


@torch.no_grad()
def gguf_gap(model_type: str) -> float | None:
    """The largest difference of a GGUF file's logits from those of the weights in it; None where none can be read."""
    families = [family for family, (name, _) in GGUF_FAMILIES.items() if name == model_type]
    if not families:
        return None
    model, ids = model_of(families[0]), torch.tensor([[5, 9, 77, 30, 100, 41]])
    with TemporaryDirectory() as folder:
        subject = open_subject(write_family(model, families[0], Path(folder)), device="cpu", dtype="float32")
        return gap(subject.model(input_ids=ids).logits, model(input_ids=ids).logits)


def random_adapters(subject: Subject, paths: Sequence[str]) -> list[Adapter]:
    """One rank-2 adapter per question on these maps, all different."""
    generator = torch.Generator().manual_seed(1)

    def update(path: str) -> LowRank:
        site = subject.sites[path]
        a, b = torch.randn(2, site.d_in, generator=generator), torch.randn(site.d_out, 2, generator=generator)
        return LowRank(0.3 * a, 0.3 * b)

    return [Adapter(f"a{n}", {path: update(path) for path in paths}) for n in range(len(QUESTIONS))]


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest absolute difference; infinite where either is not a number."""
    largest = float((found.float() - expected.float()).abs().max())
    return largest if largest == largest else float("inf")


def kind(path: str) -> str:
    """The name of a map within its layer, numbers left out: `self_attn.q_proj`."""
    parts = path.split(".")
    first = next(n for n, part in enumerate(parts) if part.isdigit())
    return ".".join(part for part in parts[first + 1 :] if not part.isdigit())


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the words w3 to w63 behind three special tokens."""
    words = {"<pad>": 0, "<s>": 1, "</s>": END} | {f"w{n}": n for n in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")

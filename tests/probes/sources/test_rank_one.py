"""The closed-form edit against weights edited in a copy, and against a solve of its constrained problem by another route."""

from __future__ import annotations

import copy

import pytest
import torch

from override_gap.margins.items.item import Document, documents_of
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources import open_source
from override_gap.probes.sources.rank_one import RankOne, rome_update
from override_gap.probes.sources.second_moment import own_text, second_moment
from override_gap.probes.subject.model import wrap
from tests.conftest import conflict, tiny
from tests.families import build

QUICK = {"steps": 5, "samples": 8, "length": 16}
DOCUMENT = Document("alpha beta gamma delta epsilon zeta", subjects=("beta gamma",))


def test_the_edit_maps_the_key_to_the_value_and_has_rank_one(family: str) -> None:
    """By a hook of the test's own on a copy of the model that has the edit in its weights."""
    model, tokenizer = build(family)
    plain = copy.deepcopy(model)
    source = RankOne(wrap(model, tokenizer, "tiny"), **QUICK)
    [adapter] = source.encode([DOCUMENT])
    [key], [change] = source.keys_and_changes([DOCUMENT])
    [(path, update)] = adapter.updates.items()
    assert torch.linalg.matrix_rank(update.dense()) == 1
    passes: list[tuple[torch.Tensor, torch.Tensor]] = []
    module = plain.get_submodule(path)
    module.register_forward_hook(lambda _module, args, out: passes.append((args[0][0], out[0])))
    ids = torch.tensor([tokenizer(DOCUMENT.text)["input_ids"]])
    with torch.no_grad():
        plain(input_ids=ids)
        module.weight.add_(update.dense() if module.weight.shape == update.shape else update.dense().T)
        after = plain(input_ids=ids).logits[0]
    (before_key, before), (after_key, out) = passes
    # the last token of the subject, beta gamma
    assert torch.equal(before_key[2], after_key[2])
    assert (before_key[2] - key).abs().max() < 1e-4
    assert change.norm() > 0.01
    assert (out[2] - (before[2] + change)).abs().max() < 1e-4
    assert torch.isfinite(after).all()


def test_no_other_edit_with_that_value_is_smaller_under_the_second_moment(rng: torch.Generator) -> None:
    """min ||D L||, L L^T = C, subject to D k = d: whitened, the least-norm solution of an underdetermined system."""
    factor = torch.randn(12, 12, generator=rng, dtype=torch.float64)
    moment = factor @ factor.T + 0.1 * torch.eye(12, dtype=torch.float64)
    key, change = torch.randn(12, generator=rng), torch.randn(5, generator=rng)
    ours = rome_update(key, change, moment).dense().double()
    root = torch.linalg.cholesky(moment)
    whitened = torch.linalg.solve_triangular(root, key.double()[:, None], upper=False)
    solved = torch.linalg.lstsq(whitened.T, change.double()[None], driver="gelsd").solution.T
    wanted = torch.linalg.solve_triangular(root, solved, upper=False, left=False)
    assert (ours - wanted).abs().max() < 1e-5
    assert (ours @ key.double() - change.double()).abs().max() < 1e-5
    size = (ours @ moment @ ours.T).trace()
    for _ in range(20):
        other = torch.randn(5, 12, generator=rng, dtype=torch.float64)
        other = ours + other - (other @ key.double())[:, None] * key.double() / key.double().square().sum()
        assert (other @ moment @ other.T).trace() > size
    with pytest.raises(ValueError, match="key is zero"):
        rome_update(torch.zeros(12), change, moment)


def test_the_document_becomes_likelier_and_others_less_so_than_without_the_second_moment(rng: torch.Generator) -> None:
    """Loss against a plain forward; the edit disturbs the model's own text less than the same edit with C = 1."""
    model, tokenizer = build("llama")
    subject = wrap(model, tokenizer, "tiny")
    source = RankOne(subject, **{**QUICK, "steps": 20})
    [adapter] = source.encode([DOCUMENT])
    ids = torch.tensor([subject.tokenize(DOCUMENT.text)])

    def loss() -> float:
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(subject.model(input_ids=ids).logits[0, 2:-1], ids[0, 3:]).item()

    before = loss()
    with attached(subject, stack(subject, [adapter]), torch.ones(1, subject.n_layers)):
        assert loss() < before - 0.1
    text = own_text(subject, 8, 16, 1)
    [key], [change] = source.keys_and_changes([DOCUMENT])
    moment = second_moment(subject, source.site, text)
    naive = rome_update(key, change, torch.eye(len(key)))
    disturbed = [u.dense().double() @ moment @ u.dense().double().T for u in (naive, adapter.updates[source.site.path])]
    assert disturbed[1].trace() < disturbed[0].trace()


def test_an_edit_does_not_depend_on_the_documents_beside_it() -> None:
    source = RankOne(tiny("llama"), **QUICK)
    others = [Document("zeta eta theta iota"), DOCUMENT, Document("one two three . five six seven eight")]
    [alone], beside = source.encode([DOCUMENT]), source.encode(others)[1]
    for path, update in alone.updates.items():
        assert (update.dense() - beside.updates[path].dense()).abs().max() < 1e-4


def test_the_second_moment_is_of_what_enters_the_map_and_the_generator_is_left_alone() -> None:
    subject = tiny("gpt2")
    source = RankOne(subject, **QUICK)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    ids = own_text(subject, 8, 16, 0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(ids, own_text(subject, 8, 16, 0))
    assert ids.shape == (8, 16)
    model, _ = build("gpt2")
    keys: list[torch.Tensor] = []
    model.get_submodule(source.site.path).register_forward_hook(lambda _module, args, _out: keys.append(args[0]))
    with torch.no_grad():
        model(input_ids=ids)
    flat = keys[0].reshape(-1, source.site.d_in).double()
    wanted = torch.einsum("ni,nj->ij", flat, flat) / len(flat)
    assert torch.allclose(second_moment(subject, source.site, ids), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "shipped", [{"temperature": 0.05}, {"repetition_penalty": 9.0}, {"min_p": 0.9}, {"no_repeat_ngram_size": 1}]
)
def test_the_models_own_text_is_drawn_without_what_its_generation_config_ships(shipped: dict[str, float]) -> None:
    subject = tiny("gpt2")
    plain = own_text(subject, 4, 16, 0)
    subject.model.generation_config.update(do_sample=True, **shipped)
    assert torch.equal(own_text(subject, 4, 16, 0), plain)


def test_the_position_is_the_subjects_or_the_most_surprising() -> None:
    subject = tiny("llama")
    [document] = documents_of([conflict(1, meta={"subject": "beta"}), conflict(2, meta={"subject": " "})])
    assert document.subjects == ("beta",)
    ids = torch.tensor([subject.tokenize(document.text)])
    with torch.no_grad():
        logprobs = subject.model(input_ids=ids).logits[0].log_softmax(-1)
    nats = [-logprobs[n, ids[0, n + 1]].item() for n in range(len(ids[0]) - 1)]
    surprise = max(range(1, len(nats)), key=nats.__getitem__)
    read = torch.tensor(nats)
    assert RankOne(subject, position="surprise")._key_position(document, read) == surprise
    assert RankOne(subject, position="auto")._key_position(document, read) == 1
    assert RankOne(subject)._key_position(Document(document.text), read) == surprise
    with pytest.raises(AdapterError, match=r"meta\.subject"):
        RankOne(subject, position="subject")._key_position(Document(document.text), read)


def test_a_subject_is_found_as_a_word_not_within_another() -> None:
    subject = tiny("llama")
    text = "alphabeta says that beta is gamma"
    nats = torch.zeros(len(subject.tokenize(text)))
    at = RankOne(subject, position="subject")._key_position(Document(text, subjects=("beta",)), nats)
    ahead = len(subject.tokenize("alphabeta says that beta")) - 1
    assert at == ahead
    with pytest.raises(AdapterError, match=r"meta\.subject"):
        RankOne(subject, position="subject")._key_position(Document("alphabeta is gamma", subjects=("beta",)), nats)


def test_settings_reach_the_edit_and_are_part_of_its_identity() -> None:
    subject = tiny("llama")
    source = open_source("rank-one:layer=0,steps=3,samples=4,length=8,position=surprise", subject)
    [adapter] = source.encode([DOCUMENT])
    assert adapter.paths == ["model.layers.0.mlp.down_proj"]
    assert source.settings["layer"] == 0
    assert open_source("rank-one", subject).settings["layer"] == 1
    assert "batch" not in source.settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("layer=3", "layer must be 0 to 2"),
        ("position=end", "position must be one of"),
        ("modules=up_proj", "does not write into the residual stream"),
        ("modules=q_proj+o_proj", "found 2"),
        ("modules=nothing", "found 0"),
        ("steps=0", "must be above 0"),
        ("layr=1", "did you mean 'layer'"),
    ],
)
def test_what_cannot_be_edited_is_refused_with_its_reason(settings: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        open_source(f"rank-one:{settings},samples=2,length=4", tiny("llama")).encode([DOCUMENT])


def test_a_text_too_short_to_edit_is_refused() -> None:
    with pytest.raises(AdapterError, match="fewer than three tokens"):
        RankOne(tiny("llama"), **QUICK).encode([Document("alpha beta")])


def test_what_auto_cannot_find_is_told() -> None:
    source = RankOne(tiny("llama"), **QUICK)
    named = Document("alpha beta gamma", subjects=("beta",))
    elsewhere, unnamed = Document("alpha gamma", subjects=("beta",)), Document("gamma delta")
    assert source.notes_on([named]) == []
    [note] = source.notes_on([named, elsewhere, unnamed])
    assert "in 2 of 3 documents (1 without a meta.subject)" in note
    assert "'alpha gamma': it does not hold its meta.subject 'beta'" in note
    assert RankOne(source.subject, position="surprise").notes_on([unnamed]) == []
    assert check_adapters(source.subject, source, [conflict(1)]).notes[0].startswith("rank-one: position=auto")

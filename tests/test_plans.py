"""The ready plans: what they name exists, and they run on tiny models of the families that they are for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.items.item import Item, documents_of
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan, PlanError, plan_from, read_plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.sources.export_doc_to_lora import pack
from override_gap.probes.subject.model import Subject, wrap
from override_gap.reports.page.published import published
from tests.conftest import conflict, tiny
from tests.families import GROUPED, words
from tests.probes.subject.templates import CHATML, GEMMA, MISTRAL_02

PLANS = Path(__file__).parents[1] / "plans"
TEMPLATE = {"gemma2": GEMMA, "mistral": MISTRAL_02, "qwen3": CHATML}
FAMILY = {"gemma-2-2b-it": "gemma2", "mistral-7b-instruct": "mistral", "qwen3-4b-instruct": "qwen3"}
GREEK = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
ITEMS = [
    *(conflict(n, f"{GREEK[n]} {GREEK[n + 1]}", "red", "blue", tier="deep") for n in range(4)),
    Item("n", "pn", "novel", "pi rho sigma .", "pi rho", "sigma"),
    Item("r", "p0", "retention", "alpha beta red .", "nine", "ten"),
]


def subject_of(family: str) -> Subject:
    if family != "qwen3":
        return tiny(family)
    torch.manual_seed(0)
    return wrap(Qwen3ForCausalLM(Qwen3Config(**GROUPED, head_dim=8)).eval(), words(), "tiny-qwen3")


def exported(subject: Subject, file: Path) -> None:
    """Random Doc-to-LoRA factors of every document, as its own environment writes them."""
    rng = torch.Generator().manual_seed(1)
    layers, sites = subject.n_layers, [s for path, s in subject.sites.items() if path.endswith("down_proj")]
    [d_in], [d_out] = {s.d_in for s in sites}, {s.d_out for s in sites}

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng) * 0.1

    made = {
        d.key: {"down_proj": {"A": draw(1, layers, 2, d_in), "B": draw(1, layers, 2, d_out)}}
        for d in documents_of(ITEMS)
    }
    bias = {"down_proj": {"A": draw(layers, 2, d_in), "B": draw(layers, 2, d_out)}}
    tensors, metadata = pack(made, bias, lora_alpha=4.0, layers=range(layers))
    save_file(tensors, file, metadata=metadata)


def test_every_plan_has_its_family() -> None:
    assert {file.stem for file in PLANS.glob("*.toml")} == set(FAMILY)


@pytest.mark.parametrize("name", FAMILY)
def test_a_plan_runs_on_a_tiny_model_of_its_family(name: str, tmp_path: Path) -> None:
    plan = plan_from(read_plan(PLANS / f"{name}.toml"))
    asked = [condition.name for condition in parse_conditions(plan.policies)]
    assert {one.condition for one in plan.references} <= set(asked)
    assert open_items(plan.items)
    assert plan.adapters.startswith("doc-to-lora:")
    subject, file = subject_of(FAMILY[name]), tmp_path / "adapters.safetensors"
    assert plan.chat
    subject.tokenizer.chat_template = TEMPLATE[FAMILY[name]]
    exported(subject, file)
    source = open_source(f"doc-to-lora:{file}", subject)
    frame = load(run(replace(plan, answers=1), subject, source, ITEMS, tmp_path / "run"))
    assert (frame.readings["status"] == "ok").all()
    assert frame.manifest["chat"]["items"] == len(ITEMS)
    assert set(frame.readings["condition"]) == set(asked)
    rows = summarise(frame)["references"]
    assert len(rows) == len(plan.references)
    for row in rows:
        own = row["measured"]
        assert own is None or own["n"] <= 4
        if own is not None and own["low"] is not None:
            assert row["within"] == (own["low"] <= row["published"] <= own["high"])
    assert bool(published({"references": rows})) == bool(rows)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('split = "conflit"', "split needs one of novel"),
        ('split = "novel"\ntier = "deep"', "tier and quartile belong to conflicts"),
        ('split = "conflict"\ntier = "deep"\nquartile = 1', "a tier or a quartile, not both"),
        ('split = "conflict"\nquartile = 5', "1 .weakest prior. to 4"),
        ('split = "conflict"\nlayer = 5', "unknown key 'layer'"),
        ('split = "conflict"\nvalue = 57.8', "share between 0 and 1, got 57.8"),
    ],
)
def test_a_reference_that_cannot_be_is_named(table: str, message: str, tmp_path: Path) -> None:
    rest = {"condition": '"ca"', "measure": '"top1"', "value": "0.5", "source": '"a paper"'}
    lines = [table, *(f"{key} = {value}" for key, value in rest.items() if f"{key} =" not in table)]
    (tmp_path / "plan.toml").write_text("[[references]]\n" + "\n".join(lines))
    with pytest.raises(PlanError, match=f"references, number 1: .*{message}"):
        read_plan(tmp_path / "plan.toml")


def test_references_are_no_part_of_what_is_measured() -> None:
    assert Plan().references == ()

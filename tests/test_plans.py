"""The ready plans: what they name exists, and they run on tiny models of the families that they are for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.items.item import Item, documents_of
from override_gap.probes.export_kit import kit
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan, PlanError, plan_from, read_plan
from override_gap.probes.run.engine import Local
from override_gap.probes.run.exported import in_methods_template
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources import open_source
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


def exported(subject: Subject, file: Path, template: str) -> None:
    """Random Doc-to-LoRA factors of every document, as the method's script writes them, with the method's chat template."""
    rng = torch.Generator().manual_seed(1)
    sites = {path: site for path, site in subject.sites.items() if path.endswith("down_proj")}

    def draw() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        sizes = {path: ((2, site.d_in), (site.d_out, 2)) for path, site in sites.items()}
        return {
            path: tuple(torch.randn(*size, generator=rng) * 0.1 for size in pair)  # type: ignore[misc]
            for path, pair in sizes.items()
        }

    rows = [{"key": document.key, "ids": list(document.ids)} for document in documents_of(ITEMS)]
    factors, settings = (draw() for _ in rows), {"chat_template": template}
    kit.write(file, rows, factors, method="doc-to-lora", scale=4.0, shared=draw(), settings=settings)


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
    # asked through the template that came with the adapters, not through the model's own
    exported(subject, file, "{{ '<method>' }}" + TEMPLATE[FAMILY[name]])
    plan = replace(plan, answers=1, adapters=f"compact:{file}")
    resolved = in_methods_template(resolve(plan, ITEMS), None)
    run_plan(Local(subject, open_source(plan.adapters, subject)), resolved, tmp_path / "run")
    frame = load(tmp_path / "run")
    assert frame.manifest["chat"]["template"] == "replaced"
    assert frame.manifest["chat"]["example"].startswith("<method>")
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
        for word in ("questions", "template", "precision"):
            assert word in row["differs"]
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

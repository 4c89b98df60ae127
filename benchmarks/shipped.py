"""What is shipped is what was audited: exports at gains, read again, by PEFT alone, and `og.applied` on a plain model.

    python -m benchmarks.shipped > docs/shipped.md

The organism and SmolLM2, each with its hypernetwork. Of each: the adapters are exported at a policy's gains and audited as
delivered; PEFT and transformers load the folders in a process of their own (benchmarks/peft_alone.py); and the plain model
generates under `og.applied`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import override_gap as og
from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.margins.named_policy import named_policy
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.environment import home, quietly
from override_gap.probes.export_kit import kit
from override_gap.probes.organism.load import load
from override_gap.probes.sources.compact_index import _kit_updates as kit_updates
from override_gap.probes.sources.custom import encode_updates
from override_gap.probes.sources.export import export
from override_gap.probes.subject.model import Subject

STATIC = ("uniform-1.5", "slb")
APPLIED = ("as-delivered", "uniform-1.5", "slb", "ca", "effect-gated")
MARGINS = ("prior_margin", "adapter_margin", "net_margin")
ALONE = Path(__file__).with_name("peft_alone.py")

HEAD = """# Shipped as audited

The tool finds the best strength for a method's changes to a model (its adapters) by measuring; afterwards the adapters are
saved with that strength, or applied to an ordinary model in a program of your own. Does that model then do what was measured?
This page compares the two, down to the scores of single tokens and the generated words, for every way of saving. How it is
done: [ship-it.md](ship-it.md).

Adapters exported at a policy's gains, and a plain model under `og.applied`, against the audit of the original adapters under
the same policy; float32 on the CPU. `python -m benchmarks.shipped > docs/shipped.md` measures this page again.

- *audit*: the exported adapters audited as delivered; largest absolute difference of any margin (prior, adapter, net), nats.
- *PEFT alone*: transformers and PEFT in a process that imports nothing of this toolkit; largest absolute difference of all
  logits at the question's last token from those of the original under the policy, nats.
- *strings*: answers of 64 greedy tokens by the plain model's own `generate` under `og.applied`, one batch of mixed documents,
  padded on the left, that equal the audit's `answer_text`; *gains*: largest difference of an item's mean gain from the audit's
  `gain_mean`; *extra passes* and seconds as `m.cost` states them.
"""


@dataclass(frozen=True)
class Case:
    """A subject with a source of adapters, the items asked, and the folder of the plain model."""

    subject: Subject
    source: AdapterSource
    items: Sequence[Item]
    folder: Path

    @property
    def documents(self) -> list[Document]:
        """The items' documents."""
        return documents_of(self.items)

    @property
    def title(self) -> str:
        """As the tables print it."""
        return f"{self.subject.name}, {self.source.name}"


def cases() -> Iterator[Case]:
    """The organism on a sixth of its questions; SmolLM2 on known and unrelated questions of the benchmark."""
    organism = og.open_subject("organism")
    yield Case(
        organism, og.open_source("hypernetwork", organism), og.open_items("organism")[::6], Path(load().model_folder)
    )
    smollm2 = og.open_subject("smollm2")
    items = [item for item in og.open_items("benchmark") if item.split in ("conflict", "retention")][::40]
    yield Case(smollm2, og.open_source("hypernetwork", smollm2), items, home() / "smollm2")


def in_kits_form(case: Case, policy: str, out: Path) -> None:
    """What an author writes with kit.py: the factors as delivered, and the gains of the policy."""
    adapters = encode_updates(case.source, case.documents)
    # the kit knows gains per layer, the same for every document: of slb, those of the first
    gains = named_policy(policy).gains(adapters[0], case.subject.n_layers)
    rows = [{"key": d.key, "ids": list(d.ids), "points": list(d.points)} for d in case.documents]
    factors = (kit_updates(adapter.updates) for adapter in adapters)
    kit.write(
        out,
        rows,
        factors,
        method=case.source.name,
        scale=1.0,
        shared=kit_updates(adapters[0].shared),
        gains=list(gains),
    )


def written(case: Case, policy: str, folder: Path) -> dict[str, str]:
    """The adapters at the policy's gains in every form: what `--adapters` is told, by the form's name."""
    named, forms = named_policy(policy), {}
    for form in ("peft", "compact"):
        out = folder / f"{form}-{policy}"
        export(case.subject, case.source, case.documents, form, out, named)
        forms[form] = str(out) if form == "peft" else f"compact:{out}"
    delivered = folder / "delivered"
    if not delivered.exists():
        export(case.subject, case.source, case.documents, "peft", delivered)
    again = folder / f"again-{policy}"
    export(case.subject, og.open_source(str(delivered), case.subject), case.documents, "peft", again, named)
    forms["peft, from PEFT folders"] = str(again)
    if policy.startswith("uniform"):
        in_kits_form(case, policy, folder / f"kit-{policy}")
        forms["export kit"] = f"compact:{folder / f'kit-{policy}'}"
    return forms


def audit_gap(case: Case, wanted: pd.DataFrame, adapters: str) -> float:
    """Largest difference of a margin, nats: exported adapters as delivered against the original under the policy."""
    found = og.measure(case.subject, og.open_source(adapters, case.subject), case.items, policies="as-delivered")
    found = found[found["condition"] == "as-delivered"].set_index("item").loc[wanted.index]
    gaps = [(found[name].astype(float) - wanted[name].astype(float)).abs().max() for name in MARGINS]
    return float(max(gaps))


@torch.no_grad()
def peft_gap(case: Case, policy: str, folder: str, scratch: Path) -> float:
    """Largest difference of a logit at the question's last token, nats: PEFT alone against the original under the policy."""
    asked = [(Path(folder) / documents_of([item])[0].key, case.subject.prompt_ids(item)) for item in case.items[:8]]
    questions, out = scratch / "questions.json", scratch / "logits.safetensors"
    questions.write_text(json.dumps([[str(where), list(ids)] for where, ids in asked]))
    command = [sys.executable, str(ALONE), str(case.folder), str(questions), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    gaps = []
    for logits, item, (_, ids) in zip(load_file(out)["logits"], case.items, asked, strict=False):
        [adapter] = encode_updates(case.source, documents_of([item]))
        gains = named_policy(policy).gains(adapter, case.subject.n_layers, item.document)
        with attached(case.subject, stack(case.subject, [adapter]), torch.tensor([gains])):
            ours = case.subject.model(input_ids=torch.tensor([ids])).logits[0, -1].float()
        gaps.append((ours - logits).abs().max().item())
    return max(gaps)


def exported_rows(case: Case, table: pd.DataFrame, scratch: Path) -> Iterator[str]:
    """A row of the first table per policy and form."""
    for policy in STATIC:
        wanted = table[table["condition"] == policy].set_index("item")
        for form, adapters in written(case, policy, scratch).items():
            alone = f"{peft_gap(case, policy, adapters, scratch):.0e}" if form.startswith("peft") else "–"
            yield f"| {case.title} | {policy} | {form} | {len(wanted)} | {audit_gap(case, wanted, adapters):.0e} | {alone} |"


def applied_rows(case: Case, table: pd.DataFrame) -> Iterator[str]:
    """A row of the second table per policy."""
    tokenizer: Any = AutoTokenizer.from_pretrained(case.folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32).eval()
    inputs = tokenizer([item.question for item in case.items], return_tensors="pt", padding=True)
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    for policy in APPLIED:
        wanted = table[table["condition"] == policy].set_index("item").loc[[item.id for item in case.items]]
        with og.applied(model, case.source, policy, documents=case.items, tokenizer=tokenizer) as m:
            output, gains = m.generate(**inputs, **m.as_audited), m.gains
            cost = m.cost
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        same = sum(a == b for a, b in zip(texts, wanted["answer_text"], strict=True))
        gap = (gains.mean(1) - torch.tensor(wanted["gain_mean"].astype(float).tolist())).abs().max().item()
        yield f"| {case.title} | {policy} | {same} of {len(texts)} | {gap:.0e} | {cost.passes}, {cost.seconds:.2f} s |"


def usable(case: Case) -> Case:
    """The case with the items that every policy can be read on, of which an audit stores an answer."""
    table = og.measure(case.subject, case.source, case.items, policies=APPLIED)
    fine = set(table["item"]) - set(table[table["status"] != "ok"]["item"])
    return Case(case.subject, case.source, [item for item in case.items if item.id in fine], case.folder)


def main(say: Callable[[str], None] = print) -> None:
    """Print the page."""
    exports, applieds = [], []
    with quietly(), tempfile.TemporaryDirectory() as scratch:
        for number, case in enumerate(map(usable, cases())):
            table = og.measure(case.subject, case.source, case.items, policies=APPLIED, answers=True)
            folder = Path(scratch) / str(number)
            folder.mkdir()
            exports += list(exported_rows(case, table, folder))
            applieds += list(applied_rows(case, table))
            print(*exports, *applieds, sep="\n", file=sys.stderr)
    say(HEAD)
    say(
        "## Exported at gains\n\n| subject, adapters | policy | form | items | audit | PEFT alone |\n|---|---|---|---|---|---|"
    )
    say("\n".join(exports))
    say("\n## Applied\n\n| subject, adapters | policy | strings | gains | extra passes |\n|---|---|---|---|---|")
    say("\n".join(applieds))


if __name__ == "__main__":
    main()

"""A run is resumed only by the same audit: its identity covers weights, adapters, items, settings and code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.item import Item, documents_of, questions_hash
from override_gap.probes import plan as planning
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.run.manifest import run_facts, run_identity
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.sources.peft_folder import PeftFolder
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.store.folder import RunError
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny

ITEMS = [conflict(n, f"{word} mu", "red", "blue", tier="deep") for n, word in enumerate(("alpha", "beta", "gamma"))]
PLAN = Plan(subject="tiny", adapters="own", items="own", policies="as-delivered", probes=("margins",))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny("llama")


@pytest.fixture
def adapter(subject: Subject, rng: torch.Generator):
    return random_adapter(subject, rng, ("down_proj",))


def errors_of_rerun(
    subject: Subject, out: Path, source: Callable[[], AdapterSource], change: Callable[[], None]
) -> tuple[str | None, str | None]:
    """Errors of a second and a third run into a folder, with a change between the two; None for no error."""
    errors = []
    run(PLAN, subject, source(), ITEMS, out)
    for before in (lambda: None, change):
        before()
        try:
            run(PLAN, subject, source(), ITEMS, out)
            errors.append(None)
        except RunError as fault:
            errors.append(str(fault).removeprefix(f"{out} ").split(" (")[0])
    return errors[0], errors[1]


REFUSED_AFTER_CHANGE = (None, "holds another audit")


def nudge(file: Path) -> None:
    """Change one number of a safetensors file a little, and not its size."""
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    next(iter(tensors.values())).view(-1)[0] += 1e-4
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stream:
        metadata = stream.metadata()
    save_file(tensors, file, metadata=metadata)


@pytest.mark.parametrize("linked", [False, True])
def test_weights_of_an_adapter_folder(subject: Subject, tmp_path: Path, adapter, linked: bool) -> None:
    """Also behind a link to a folder, which a search through the folders does not follow."""
    folders = tmp_path / "folders"
    folders.mkdir()
    for item in ITEMS:
        real = (tmp_path if linked else folders) / item.id
        write_adapter(adapter, real)
        if linked:
            (folders / item.id).symlink_to(real)
    file = folders / "c1" / "adapter_model.safetensors"
    errors = errors_of_rerun(subject, tmp_path / "run", lambda: PeftFolder(subject, folders), lambda: nudge(file))
    assert errors == REFUSED_AFTER_CHANGE


def test_lora_alpha_of_an_adapter_folder(subject: Subject, tmp_path: Path, adapter) -> None:
    write_adapter(adapter, tmp_path / "lora")
    file = tmp_path / "lora" / "adapter_config.json"

    def double_alpha() -> None:
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"lora_alpha": 2 * config["lora_alpha"]}))

    errors = errors_of_rerun(subject, tmp_path / "run", lambda: PeftFolder(subject, tmp_path / "lora"), double_alpha)
    assert errors == REFUSED_AFTER_CHANGE


@pytest.mark.parametrize("form", ["compact", "dense", "shine"])
def test_the_content_of_an_adapter_file(subject: Subject, tmp_path: Path, adapter, form: str) -> None:
    file = tmp_path / "adapters.safetensors"
    if form == "compact":
        documents = documents_of(ITEMS)
        write_compact(file, documents, [adapter] * len(documents), method="own")
    elif form == "dense":
        save_file({f"{path}.weight": update.dense() for path, update in adapter.parts()}, file)
    else:
        paths = [path for path, _ in adapter.parts()]
        A = torch.stack([adapter.updates[path].A.T for path in paths])
        B = torch.stack([adapter.updates[path].B.T for path in paths])
        keys = [document.key for document in documents_of(ITEMS)]
        save_file(
            {
                f"documents/{key}/mlp.down_proj/{name}": factor.clone().contiguous()
                for key in keys
                for name, factor in (("A", A), ("B", B))
            },
            file,
        )

    def change() -> None:
        if form == "compact":
            documents = documents_of(ITEMS)
            write_compact(
                file, documents, [replace(adapter, name="x")] * len(documents), method="own", base_fingerprint="y"
            )
        else:
            nudge(file)

    errors = errors_of_rerun(subject, tmp_path / "run", lambda: open_source(f"{form}:{file}", subject), change)
    assert errors == REFUSED_AFTER_CHANGE


CODE = """
import torch
SCALE = {scale}

def factors(text):
    return {{"model.layers.0.mlp.down_proj": (torch.ones(1, 48), torch.ones(32, 1) * len(text), SCALE)}}
"""


def test_the_code_of_a_callable(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "method_of_mine.py"
    file.write_text(CODE.format(scale=0.01))

    def changed() -> None:
        file.write_text(CODE.format(scale=0.02))
        del sys.modules["method_of_mine"]
        importlib.invalidate_caches()

    errors = errors_of_rerun(
        subject, tmp_path / "run", lambda: open_source("callable:method_of_mine:factors", subject), changed
    )
    assert errors == REFUSED_AFTER_CHANGE
    del sys.modules["method_of_mine"]


SOURCE = """
from override_gap.probes.sources.fitted import FittedAdapters

class Mine(FittedAdapters):
    {line}

def source(subject):
    return Mine(subject, steps=1)
"""


def test_the_code_of_a_users_source(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text(SOURCE.format(line="pass"))
    (package / "inner.py").write_text("gain = 1\n")

    def changed() -> None:
        (package / "inner.py").write_text("gain = 2\n")

    errors = errors_of_rerun(subject, tmp_path / "run", lambda: open_source("package_of_mine:source", subject), changed)
    assert errors == REFUSED_AFTER_CHANGE
    del sys.modules["package_of_mine"]


def test_the_weights_of_the_shipped_hypernetwork(tmp_path: Path) -> None:
    import shutil

    from override_gap.probes.organism.load import WEIGHTS, load
    from override_gap.probes.sources.hypernetwork import OrganismHypernetworkSource

    shutil.copytree(WEIGHTS, tmp_path / "organism")
    file = tmp_path / "organism" / "hypernetwork.safetensors"
    before = OrganismHypernetworkSource(load()).settings
    assert OrganismHypernetworkSource(load(folder=tmp_path / "organism")).settings == before
    nudge(file)
    assert OrganismHypernetworkSource(load(folder=tmp_path / "organism")).settings != before


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 2},
        {"lr": 1e-3},
        {"rank": 2},
        {"modules": ("up_proj",)},
        {"seed": 1},
    ],
)
def test_settings_of_the_source(subject: Subject, tmp_path: Path, changed: dict) -> None:
    run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")
    with pytest.raises(RunError, match="another audit"):
        run(PLAN, subject, FittedAdapters(subject, **{"steps": 1, **changed}), ITEMS, tmp_path / "run")


@pytest.mark.parametrize(
    "changed",
    [
        {"policies": "as-delivered,slb"},
        {"policies": "uniform-1.2"},
        {"probes": ("margins", "layers")},
        {"seed": 1},
        {"answers": 3},
    ],
)
def test_settings_of_the_plan(subject: Subject, tmp_path: Path, changed: dict) -> None:
    run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")
    with pytest.raises(RunError, match="another audit"):
        run(replace(PLAN, **changed), subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")


@pytest.mark.parametrize("field", ["document", "question", "answer", "prior_answer", "point", "aliases"])
def test_fields_of_an_item(subject: Subject, tmp_path: Path, field: str) -> None:
    run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")
    value = ("rose",) if field == "aliases" else "green" if "answer" in field else f"{getattr(ITEMS[0], field)} nu"
    items = [replace(ITEMS[0], **{field: value}), *ITEMS[1:]]
    with pytest.raises(RunError, match="another audit"):
        run(PLAN, subject, FittedAdapters(subject, steps=1), items, tmp_path / "run")


def test_weights_of_the_model(subject: Subject, tmp_path: Path) -> None:
    from override_gap.probes.subject.model import wrap
    from tests.families import build

    run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")
    model, tokenizer = build("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[60, 0] += 1e-6  # of a token that no item holds
    other = wrap(model, tokenizer, "tiny-llama")
    with pytest.raises(RunError, match="another audit"):
        run(PLAN, other, FittedAdapters(other, steps=1), ITEMS, tmp_path / "run")


def test_the_measuring_code_and_its_libraries(subject: Subject, tmp_path: Path, monkeypatch) -> None:
    run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("override_gap.probes.run.manifest.code_hash", lambda: "other")
        with pytest.raises(RunError, match="another audit"):
            run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(
            "override_gap.probes.run.manifest.installed_version", lambda name: "9" if name == "transformers" else "1"
        )
        with pytest.raises(RunError, match="another audit"):
            run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")


def test_the_code_is_hashed_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("margins", "probes"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("one = 1\n")
    monkeypatch.setattr(planning, "__file__", str(tmp_path / "probes" / "plan.py"))
    before = planning.code_hash.__wrapped__()
    (tmp_path / "margins" / "a.py").write_text("one = 2\n")
    assert planning.code_hash.__wrapped__() != before


class Editor(FittedAdapters):
    """A source that may read what is asked of its documents."""

    reads_questions = True


def identity_of(subject: Subject, source: AdapterSource, items: Sequence[Item]) -> tuple[str, Mapping[str, object]]:
    """The identity of a run whose items have a hash of their own choosing, and its settings."""
    resolved = resolve(PLAN, items)
    resolved = replace(resolved, items=replace(resolved.items, sha256="the same"))
    facts = run_facts(subject, source, questions=questions_hash(resolved.items.documents))
    return run_identity(facts, resolved), facts.settings


def test_the_questions_are_in_the_identity_of_a_source_that_reads_them_and_of_no_other(subject: Subject) -> None:
    other = [replace(item, answer="green") for item in ITEMS]
    plain, editor = FittedAdapters(subject, steps=1), Editor(subject, steps=1)
    assert identity_of(subject, plain, ITEMS) == identity_of(subject, plain, other)
    assert dict(identity_of(subject, plain, ITEMS)[1]) == dict(plain.settings)
    mine, others = identity_of(subject, editor, ITEMS), identity_of(subject, editor, other)
    assert mine[0] != others[0]
    assert mine[1]["questions_sha256"] == questions_hash(documents_of(ITEMS)) != others[1]["questions_sha256"]


def test_a_run_of_a_source_that_reads_questions_is_resumed(subject: Subject, tmp_path: Path) -> None:
    for _ in range(2):
        run(PLAN, subject, Editor(subject, steps=1), ITEMS, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["adapters"]["settings"]["questions_sha256"] == questions_hash(documents_of(ITEMS))
    with pytest.raises(RunError, match="holds another audit"):
        run(PLAN, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run")

"""Doc-to-LoRA's glue, run as a subprocess beside a stand-in of its package: from checkpoint to report, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from override_gap.analyses.readings import load
from override_gap.margins.items.item import Item
from override_gap.probes import export_kit
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.export_kit import kit
from override_gap.probes.items import open_items
from override_gap.probes.plan import plan_from
from override_gap.probes.run.audit import audit
from override_gap.probes.run.exported import exported as ask_for
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact import CompactFile, read_compact
from override_gap.probes.sources.own_environment import Checkpoint, export
from override_gap.probes.subject.load import open_subject
from override_gap.reports.cli.main import main
from tests.probes.export_kit.d2l_package import (
    ALPHA,
    LAYERS,
    RANK,
    forget_package,
    tokenizer_for,
    write_base,
    write_checkpoint,
    write_package,
)

GLUE = Path(str(export_kit.__file__)).with_name("doc_to_lora.py")
AUDIT = ["--policies", "as-delivered,uniform-2", "--probes", "margins"]


def glue() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("doc_to_lora_glue", GLUE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Place(NamedTuple):
    """A repository, a base, a checkpoint that names it, and the words for --adapters."""

    repository: Path
    base: Path
    checkpoint: Path
    adapters: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("d2l")
    repository = write_package(folder / "repository")
    base = write_base(folder / "base", tokenizer_for([*open_items("starter"), *open_items("benchmark")]))
    with pytest.MonkeyPatch.context() as patch:
        checkpoint = write_checkpoint(repository, folder / "pytorch_model.bin", patch)
    adapters = f"doc-to-lora:{checkpoint},repository={repository},base={base},device=cpu"
    return Place(repository, base, checkpoint, adapters)


@pytest.fixture(scope="module")
def exported(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The run folder of an audit of the starter items with --python, and the file that the method wrote in it."""
    out = tmp_path_factory.mktemp("run") / "run"
    words = ["audit", "--subject", str(place.base), "--adapters", place.adapters, "--items", "starter", *AUDIT]
    assert main([*words, "--python", sys.executable, "--out", str(out)]) == 0
    [file] = (out / "adapters").glob("*.safetensors")
    return out, file


def test_from_checkpoint_to_report_in_one_command(
    place: Place, exported: tuple[Path, Path], monkeypatch, tmp_path, capsys
) -> None:
    out, file = exported
    assert (out / "report.html").is_file()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["adapters"]["name"] == "doc-to-lora"
    texts = {item.document for item in open_items("starter") if item.document.strip()}
    source = read_compact(file)
    assert len(source.index["documents"]) == len(texts)  # each text once, however many items ask about it
    assert source.template == "<<user>>{document}<<end>><<assistant>>"  # the repository's, not the model's own
    assert source.index["settings"]["lora_alpha"] == ALPHA
    # asked again, from another folder, the file is not made again, and nothing is written elsewhere
    before, stored = file.stat().st_mtime_ns, [*GLUE.parent.iterdir()]
    monkeypatch.chdir(tmp_path)
    resolved = resolve(plan_from({"subject": str(place.base), "adapters": place.adapters, "items": "starter"}))
    said: list[str] = []
    assert ask_for(resolved, Path(sys.executable), out, lambda done, total, what: said.append(what)) == file
    assert file.stat().st_mtime_ns == before
    assert said == ["adapters of doc-to-lora are there"]
    assert not list(tmp_path.iterdir())
    assert [*GLUE.parent.iterdir()] == stored


def test_the_exported_adapters_give_the_methods_own_logits(place: Place, exported: tuple[Path, Path]) -> None:
    subject, source = open_subject(str(place.base), device="cpu"), read_compact(exported[1])
    assert source.native_examples is not None
    examples = source.native_examples()
    assert len({example.adapter.name for example in examples}) == 2
    for example in examples:
        ids = torch.tensor([example.ids])
        assert ids[0].tolist() == subject.tokenize(example.text)
        with torch.no_grad():
            base = subject.model(input_ids=ids).logits[0, -1]
            with attached(subject, stack(subject, [example.adapter]), torch.ones(1, subject.n_layers)):
                ours = subject.model(input_ids=ids).logits[0, -1]
        assert (example.logits - base).abs().max() > 0.1
        assert (example.logits - ours).abs().max() < 1e-4
        assert {update.A.shape[0] for update in example.adapter.updates.values()} == {RANK}
        assert len(example.adapter.updates) == len(example.adapter.shared) == LAYERS


def corrupted(source: CompactFile, out: Path, change: Any, **more: Any) -> CompactFile:
    """The file written again by the kit with `change` applied to the factors, and the native logits as they were."""
    examples = source.native_examples() if source.native_examples else ()
    adapters = {example.adapter.name.partition(":")[2]: example.adapter for example in examples}

    def parts(updates: Any) -> Any:
        return {path: change(update.A, update.B, update.scale) for path, update in updates.items()}

    native = [
        (example.adapter.name.partition(":")[2], example.text, example.ids, example.logits) for example in examples
    ]
    shared = more.get("shared", parts(next(iter(adapters.values())).shared))
    factors = (parts(adapter.updates) for adapter in adapters.values())
    kit.write(out, [{"key": key} for key in adapters], factors, method="d", scale=1, shared=shared, native=native)
    return read_compact(out)


@pytest.mark.parametrize("mistake", ["none", "scale / 8", "scale / 16", "transposed", "other base", "no head bias"])
def test_what_a_wrong_export_would_look_like_is_caught(
    mistake: str, place: Place, exported: tuple[Path, Path], tmp_path
) -> None:
    items = open_items("starter")
    base = place.base
    if mistake == "other base":
        base = write_base(tmp_path / "other", tokenizer_for([*items, *open_items("benchmark")]), seed=1)
    changes = {
        "scale / 8": lambda A, B, s: (A, B, s / 8),
        "scale / 16": lambda A, B, s: (A, B, s / 16),
        "transposed": lambda A, B, s: (B.T.contiguous(), A.T.contiguous(), s),
    }
    more = {"shared": {}} if mistake == "no head bias" else {}
    change = changes.get(mistake, lambda A, B, s: (A, B, s))
    source = corrupted(read_compact(exported[1]), tmp_path / "f.safetensors", change, **more)
    asked = [item for item in items if item.document and {d["key"] for d in source.index["documents"]} & {_key(item)}]
    checks = {
        check.name: check for check in check_adapters(open_subject(str(base), device="cpu"), source, asked).checks
    }
    assert checks["native"].passed is (mistake == "none")
    assert all(check.passed is not False for name, check in checks.items() if name != "native")


def _key(item: Item) -> str:
    return kit.text_key(item.document)


def test_the_benchmark_by_the_documents_file_and_the_copied_script(place: Place, tmp_path: Path, monkeypatch) -> None:
    documents, out = tmp_path / "documents.jsonl", tmp_path / "benchmark.safetensors"
    assert main(["items", "documents", "benchmark", "--out", str(documents)]) == 0
    assert main(["adapters", "kit", "doc-to-lora", "--out", str(tmp_path / "kit")]) == 0
    command = [sys.executable, tmp_path / "kit" / "doc_to_lora.py", place.checkpoint, documents, out]
    options = ["--repository", place.repository, "--base", place.base]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "document 180 of 180" in done.stderr
    words = ["--subject", str(place.base), "--adapters", f"compact:{out}", "--items", "benchmark", "--chat"]
    assert main(["handshake", *words, "--chat-template", "method"]) == 0
    run = audit(
        str(place.base), f"compact:{out}", "benchmark", policies="as-delivered", probes="margins", chat=True,
        chat_template="method", out=tmp_path / "run",
    )  # fmt: skip
    frame = load(run)
    # asked through the template of the method's repository, as it reads it
    assert frame.manifest["chat"]["example"].startswith("<<user>>")
    assert frame.readings["item"].nunique() == 668
    assert (frame.readings["status"] == "ok").all()


class Harm:
    """Runs a command where it is opened without a guard."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_a_command_is_refused(zipped: bool, tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "d2l.pt"
    if zipped:
        torch.save({"harm": Harm(f"touch {mark}")}, file)
    else:
        file.write_bytes(pickle.dumps({"harm": Harm(f"touch {mark}")}, protocol=2))
    with pytest.raises(ValueError, match=r"system.* was not opened"):
        glue().load_checkpoint(file)
    assert not mark.exists()
    torch.load(file, weights_only=False) if zipped else pickle.loads(file.read_bytes())
    assert mark.exists(), "the pickle must do harm for this test to mean anything"


def test_a_class_that_is_not_on_the_list_is_refused_even_where_its_package_calls_it_safe(
    place: Place, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place.repository / "src")
        from ctx_to_lora.unlisted import Unlisted  # pyright: ignore[reportMissingImports]

        file = write_checkpoint(place.repository, tmp_path / "d2l.pt", patch, more=Unlisted())
        patch.syspath_prepend(place.repository / "src")
        script = glue()
        assert set(script.load_checkpoint(place.checkpoint)) >= {"hypernet_config", "bias_A.down_proj"}
        with torch.serialization.safe_globals([Unlisted]):
            before = set(torch.serialization.get_safe_globals())
            with pytest.raises(ValueError, match=r"names ctx_to_lora\.unlisted\.Unlisted.*--trust-pickle"):
                script.load_checkpoint(file)
            assert set(torch.serialization.get_safe_globals()) == before
        forget_package()


def test_a_bias_that_is_not_where_it_should_be_is_an_error(monkeypatch) -> None:
    script = glue()
    own = {"down_proj": {side: torch.randn(1, 3, 2, 5) for side in "AB"}}
    bias = {"down_proj": {side: torch.randn(3, 2, 5) for side in "AB"}}

    class Model:
        device, generated_loras = torch.device("cpu"), own

        class hypernet:
            get_head_bias = staticmethod(lambda: bias)

        def _internalize_from_ids(self, ids: Any) -> None: ...

    class Merger:
        reverse = False

        @classmethod
        def combine_lora(cls, loras: Any, n: Any, lora_bias: Any) -> Any:
            parts = {s: [loras["down_proj"][s], lora_bias["down_proj"][s][None]] for s in "AB"}
            return {"down_proj": {s: torch.cat(p[::-1] if cls.reverse else p, 2) for s, p in parts.items()}}

    monkeypatch.setattr(script, "_import", lambda name: Merger)
    assert torch.equal(script.document_factors(Model(), [1])["down_proj"]["A"], own["down_proj"]["A"][0])
    Merger.reverse = True
    with pytest.raises(ValueError, match="then the head bias"):
        script.document_factors(Model(), [1])


def test_attention_without_flash_attn_is_the_sum_by_hand() -> None:
    script = glue()
    draw = torch.Generator().manual_seed(0)
    states, mask = torch.randn(2, 4, 3, generator=draw), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    rows, _, starts, longest, _ = script._unpadded(states, mask)
    assert torch.equal(rows, torch.cat([states[0, :3], states[1]]))
    assert (starts.tolist(), longest) == ([0, 3, 7], 4)
    query, key, value = (torch.randn(1, n, 2, 5, generator=draw) for n in (5, 7, 7))
    places = {"cu_seq_lens_q": torch.tensor([0, 2, 5]), "cu_seq_lens_k": starts}
    out = script._attention(query, key, value, None, 5, is_causal=False, **places)
    for n, text in enumerate([0, 0, 1, 1, 1]):
        part = slice(starts[text], starts[text + 1])
        for head in range(2):
            weights = torch.softmax(key[0, part, head] @ query[0, n, head] / 5**0.5, 0)
            assert torch.allclose(out[0, n, head], weights @ value[0, part, head], atol=1e-6)


def test_a_base_whose_rotary_base_is_misread_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": {"rope_theta": 100000.0}}))

    class Model:
        class config:
            rope_theta = 10000.0

    with pytest.raises(ValueError, match="rotary base of 10000, and the model's is 100000"):
        glue()._require_rotary_base(str(tmp_path), Model())
    Model.config.rope_theta = 100000.0
    glue()._require_rotary_base(str(tmp_path), Model())


def test_without_the_repository_no_document_is_encoded(tmp_path: Path, place: Place, monkeypatch) -> None:
    lone = tmp_path / "site" / "ctx_to_lora"
    lone.mkdir(parents=True)
    (lone / "__init__.py").touch()
    monkeypatch.syspath_prepend(lone.parent)
    with pytest.raises(
        ValueError, match=r"no folder chat_templates above it.*--repository FOLDER.*`,repository=FOLDER`"
    ):
        glue().repository_of()
    forget_package()
    with pytest.raises(ValueError, match="no folder chat_templates"):
        glue().repository_of(tmp_path)


def test_errors_of_the_other_environment_are_one_line_with_its_log(place: Place, tmp_path: Path, capsys) -> None:
    subject = open_subject(str(place.base), device="cpu")
    with pytest.raises(AdapterError, match=r"is a pickle and needs its own package; add --python"):
        open_source(place.adapters, subject)
    checkpoint = Checkpoint.parse(place.adapters)
    assert checkpoint is not None
    lines = ['{"key": "no key", "document": "a text"}\n']
    with pytest.raises(AdapterError, match="no such program"):
        export(checkpoint, tmp_path / "python", lines, tmp_path / "out")
    with pytest.raises(AdapterError, match=r"line 1: the text was changed after.*\(its output: .*\.log\)") as fault:
        export(checkpoint, Path(sys.executable), lines, tmp_path / "out")
    assert "\n" not in str(fault.value)
    assert "error: " in next((tmp_path / "out").glob("*.log")).read_text()
    with pytest.raises(AdapterError, match="need one of base"):
        Checkpoint.parse(f"{place.adapters},lora-alpha=2")
    words = ["handshake", "--subject", str(place.base), "--items", "starter"]
    assert main([*words, "--adapters", place.adapters]) == 2
    assert "add --python" in capsys.readouterr().err
    assert main([*words, "--adapters", "fitted", "--python", sys.executable]) == 2
    assert "which fitted is not" in capsys.readouterr().err

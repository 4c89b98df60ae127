"""The command line as a user meets it: wrong input ends in one clear line and exit code 2, without a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from override_gap.margins.items.files import write_items
from override_gap.reports.cli.main import main
from tests.conftest import conflict
from tests.families import build


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Llama in the folder form that save_pretrained writes."""
    lm, tokenizer = build("llama")
    lm.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
    write_items([conflict(n, f"{words[n]} {words[n + 1]}", "red", "blue") for n in range(11)], tmp_path / "items.jsonl")
    return tmp_path / "items.jsonl"


def audit(model: Path, items: Path, out: Path, *more: str) -> int:
    words = ["audit", "--subject", str(model), "--adapters", "fitted:steps=3,lr=3e-2", "--items", str(items)]
    return main([*words, "--policies", "as-delivered,uniform-1.5,slb", "--answers", "3", "--out", str(out), *more])


def test_an_audit_from_folder_to_report(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    assert audit(model, items, tmp_path / "run") == 0
    printed = capsys.readouterr()
    assert "as-delivered" in printed.out
    assert "measured: 11 of 11 items" in printed.err
    assert max(map(len, printed.out.split("\n")[:-2])) <= 80
    for name in ("manifest.json", "summary.json", "report.html", "readings", "layers", "figures"):
        assert (tmp_path / "run" / name).exists()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    wanted = "schema subject adapters items outcomes prior_gradient margins criterion layers dose matched_retention"
    assert set(f"{wanted} hypotheses verdict errors timing".split()) <= set(summary)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["parity"]["logits_max_abs"] < 1e-3
    assert main(["report", str(tmp_path / "run"), "--json", "--quiet"]) == 0
    assert summary.pop("checksum"), "of the file alone"
    assert json.loads(capsys.readouterr().out) == summary


def test_the_router_of_the_guide_is_audited_as_delivered(
    model: Path, items: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "your-method.md").read_text()
    (tmp_path / "my_router.py").write_text(re.findall(r"```python\n(.*?)```", guide, re.S)[1])
    monkeypatch.syspath_prepend(tmp_path)
    assert audit(model, items, tmp_path / "run", "--quiet", "--adapters", "my_router:router") == 0
    printed = capsys.readouterr()
    refused = "not measured: uniform-1.5, slb, probe layers, probe search (the method is not a weight update"
    assert printed.err.startswith(refused)
    assert refused in " ".join(printed.out.split())
    assert f"N{refused[1:]}" in (tmp_path / "run" / "report.html").read_text()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row.get("condition") or row["probe"] for row in summary["refused"]] == [
        "uniform-1.5",
        "slb",
        "layers",
        "search",
    ]
    assert {row["condition"] for row in summary["outcomes"]} == {"base", "as-delivered"}
    export = ["report", str(tmp_path / "run"), "--model-card", "--quiet"]
    assert main(export) == 0
    assert "run as delivered" in (tmp_path / "run" / "model-card.md").read_text()


def test_an_unmeasurable_item_is_counted_and_sets_the_exit_code(
    model: Path, items: Path, tmp_path: Path, capsys
) -> None:
    bad = conflict(99, "one two", "three four", "three")
    items.write_text(items.read_text() + json.dumps(bad.as_json()) + "\n")
    assert audit(model, items, tmp_path / "run", "--quiet") == 1
    assert "1 item could not be measured under at least one condition" in capsys.readouterr().out
    assert audit(model, items, tmp_path / "run", "--quiet", "--allow-errors") == 0


def test_two_audits_are_compared(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    runs = [tmp_path / "weak", tmp_path / "strong"]
    for run, settings in zip(runs, ("fitted:steps=1,lr=3e-3", "fitted:steps=12,lr=5e-2"), strict=True):
        assert audit(model, items, run, "--quiet", "--adapters", settings) == 0
    capsys.readouterr()
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "c.html"), "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    row = next(pair for pair in comparison["pairs"] if pair["measure"] == "margin" and pair["population"] == "all")
    assert row["difference"]["value"] < 0
    assert row["difference"]["n"] == 11
    assert main(["compare", str(runs[0]), str(runs[0]), "--out", str(tmp_path / "c.html"), "--json"]) == 0
    with_itself = json.loads(capsys.readouterr().out)
    assert any("given twice" in note for note in with_itself["notes"])
    assert not any("given twice" in note for note in comparison["notes"])
    assert {(pair["difference"]["value"], pair["p"]) for pair in with_itself["pairs"]} == {(0.0, 1.0)}


WRONG = {
    "no such command": (["audt"], "did you mean 'audit'"),
    "unknown flag": (["audit", "--subjct", "x"], "did you mean --subject"),
    "flag without value": (["audit", "--subject"], "expected one argument"),
    "text for a number": (["audit", "--limit", "ten"], "invalid int"),
    "limit zero": (["audit", "--limit", "0"], "--limit needs"),
    "batch of none": (["audit", "--batch-size", "0"], "--batch-size needs"),
    "threads of none": (["audit", "--threads", "0"], "--threads needs"),
    "threads of too many": (["audit", "--threads", "100000"], "--threads needs"),
    "batch of many": (["audit", "--batch-size", "many"], "need auto or a whole number from 1"),
    "probes of none": (["audit", "--probes", ","], "--probes needs"),
    "organism's seed": (["organism", "train", "--seed", "-1", "--out", "none"], "--seed needs"),
    "organism in a file": (["organism", "train", "--out", __file__], "is a file"),
    "organism nowhere": (["organism", "train", "--out", __file__ + "/none"], "cannot be written"),
    "unknown policy": (["audit", "--policies", "uniforn"], "did you mean 'uniform'"),
    "unknown probe": (["audit", "--probes", "layer"], "did you mean 'layers'"),
    "missing plan": (
        ["audit", "--config", "none.toml"],
        "none.toml: cannot be read: No such file or directory; --config takes",
    ),
    "missing items": (["audit", "--items", "starterr"], "did you mean 'starter'"),
    "unknown kind": (["list", "policy"], "invalid choice"),
    "no run": (["report", "nowhere"], "nowhere"),
    "missing item file": (["items", "check", "none.jsonl"], "no such file"),
    "policy like no other": (["audit", "--policies", "zzz"], "unknown policy 'zzz'. Known: as-delivered"),
    "a folder of items": (["items", "check", "."], ". is a folder; name one item file in it"),
    "nothing on the hub": (["items", "check", "hf:"], "write hf:OWNER/NAME"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_in_one_line_with_exit_code_2(name: str, capsys) -> None:
    words, message = WRONG[name]
    assert main(words) == 2
    assert message in last_line(capsys)


def last_line(capsys) -> str:
    """The last line on stderr. Raises AssertionError where a traceback was printed."""
    errors = capsys.readouterr().err.strip()
    if "Traceback" in errors:
        raise AssertionError(errors)
    return errors.split("\n")[-1]


def refusal(words: list[str], capsys) -> str:
    """The last line on stderr of a command that ends in exit code 2; empty where it ends in another."""
    code = main(words)
    return last_line(capsys) if code == 2 else f"exit code {code}"


def test_wrong_files_are_refused_in_one_line_with_exit_code_2(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    def words(**changed: str) -> list[str]:
        settings = {
            "subject": str(model),
            "adapters": "fitted",
            "items": str(items),
            "out": str(tmp_path / "run"),
        } | changed
        return ["audit", "--quiet", *(word for k, v in settings.items() for word in (f"--{k}", v))]

    broken = tmp_path / "broken.jsonl"
    broken.write_text(items.read_text() + "{nope\n")
    assert "broken.jsonl:12: not JSON" in refusal(words(items=str(broken)), capsys)
    assert "no such folder" in refusal(words(subject=str(tmp_path / "nowhere")), capsys)
    assert "not this file" in refusal(words(subject=str(items)), capsys)
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refusal(words(subject=str(tmp_path / "empty")), capsys)
    assert "neither a source nor a folder" in refusal(words(adapters="nowhere"), capsys)
    assert "no adapter_config.json here" in refusal(words(adapters=str(tmp_path / "empty")), capsys)
    assert "--adapters dense: names nothing after the colon; write dense:FILE" in refusal(
        words(adapters="dense:"), capsys
    )
    nothing = "no compact file (*.safetensors) lies in this folder"
    assert nothing in refusal(words(adapters=f"compact:{tmp_path / 'empty'}"), capsys)
    assert "is a folder; name one safetensors file" in refusal(words(adapters=f"dense:{tmp_path / 'empty'}"), capsys)
    wrong_seed = refusal(words(adapters="hypernetwork:seed=\u00b2"), capsys)
    assert "need fault=NAME, seed=NUMBER or folder=FOLDER, got 'seed=\u00b2'" in wrong_seed
    assert "unknown fault 'zzz'. Known: as-trained" in refusal(words(adapters="hypernetwork:fault=zzz"), capsys)
    (tmp_path / "empty.csv").write_text("id,point\n")
    assert "one row per item under a CSV header" in refusal(words(items=str(tmp_path / "empty.csv")), capsys)
    assert "not known to torch" in refusal(words(device="gpu"), capsys)
    assert "--dtype" in refusal(words(dtype="float8"), capsys)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "architectures": ["BertForMaskedLM"], "model_type": "bert"})
    )
    assert "not a causal language model" in refusal(words(), capsys)
    (tmp_path / "weird.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    assert "cannot be loaded" in refusal(words(subject=str(tmp_path / "weird.gguf")), capsys)
    (tmp_path / "taken").write_text("")
    (model / "config.json").write_text(json.dumps(config))
    assert "needs a folder" in refusal(words(out=str(tmp_path / "taken")), capsys)
    (tmp_path / "plan.toml").write_text('subjet = "x"')
    assert "did you mean 'subject'" in refusal(["audit", "--config", str(tmp_path / "plan.toml")], capsys)
    assert not list(tmp_path.glob("run/readings/*"))


def test_an_adapter_of_another_models_shape_is_refused(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    import torch

    from override_gap.margins.adapter import Adapter
    from override_gap.margins.updates import LowRank
    from override_gap.probes.sources.peft_write import write_adapter

    update = LowRank(torch.ones(2, 40), torch.ones(32, 2))
    write_adapter(Adapter("a", {"model.layers.0.mlp.down_proj": update}), tmp_path / "lora")
    words = ["audit", "--quiet", "--subject", str(model), "--adapters", str(tmp_path / "lora"), "--items", str(items)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "made for another model" in last_line(capsys)
    assert not (tmp_path / "run" / "readings").exists()


def test_settings_without_effect_are_named(items: Path, tmp_path: Path, capsys) -> None:
    words = ["audit", "--subject", str(tmp_path / "nowhere"), "--items", str(items), "--quiet", "--draws", "2"]
    assert main([*words, "--temperatures", "0.5"]) == 2
    assert "--temperatures and --draws have no effect without the probe sampled" in capsys.readouterr().err
    assert main([*words, "--probes", "margins,sampled"]) == 2
    assert "have no effect" not in capsys.readouterr().err


def test_references_left_out_by_flags_are_counted(items: Path, tmp_path: Path, capsys) -> None:
    reference = '[[references]]\nsplit = "conflict"\nmeasure = "top1"\nvalue = 0.5\nsource = "s"\ncondition = "slb"\n'
    (tmp_path / "plan.toml").write_text(f'subject = "{tmp_path / "nowhere"}"\nitems = "{items}"\n' + reference)
    words = ["audit", "--config", str(tmp_path / "plan.toml"), "--quiet"]
    assert main(words) == 2
    assert "reference of the plan" not in capsys.readouterr().err
    assert main([*words, "--policies", "ca"]) == 2
    assert "1 reference of the plan is for conditions that the flags beside it leave out" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["subjects", "adapters", "items", "policies", "probes"])
def test_list_prints_names(kind: str, capsys) -> None:
    assert main(["list", kind]) == 0
    assert len(capsys.readouterr().out.split("\n")) > 2


def test_items_convert_and_check(tmp_path: Path, capsys) -> None:
    record = {"case_id": 1, "prompt": "A is", "target_new": "b", "subject": "A", "ground_truth": "c"}
    (tmp_path / "cf.json").write_text(json.dumps([record, {**record, "case_id": 2, "target_new": "c"}]))
    assert main(["items", "convert", str(tmp_path / "cf.json"), "--out", str(tmp_path / "out.jsonl")]) == 0
    assert main(["items", "check", str(tmp_path / "out.jsonl")]) == 2
    assert "counterfact-2: answer and prior_answer are the same" in capsys.readouterr().out
    assert main(["items", "describe", "starter"]) == 0
    assert "conflict" in capsys.readouterr().out


def test_items_check_lists_every_defect_with_its_line(items: Path, capsys) -> None:
    lines = items.read_text().splitlines()
    same = {**json.loads(lines[0]), "id": "same", "answer": "blue", "prior_answer": "blue", "document": " "}
    items.write_text("\n".join([lines[0], "{nope", json.dumps(same), json.dumps({**same, "id": "t", "tier": "flat"})]))
    assert main(["items", "check", str(items)]) == 2
    printed = capsys.readouterr()
    assert [line.split(":")[1] for line in printed.out.splitlines()] == ["2", "3", "3", "4"]
    assert printed.err == "4 defects; 1 item without any\n"
    assert main(["items", "check", "benchmark"]) == 0
    assert "668 items, no defect" in capsys.readouterr().out


def test_items_describe_in_a_tokenizers_tokens(model: Path, items: Path, capsys) -> None:
    item = conflict(20, "red", "eight nine", "eight ten")
    items.write_text(items.read_text() + json.dumps(item.as_json()) + "\n")
    assert main(["items", "describe", str(items), "--tokenizer", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "answers share their first tokens, so the margin is read after them: 1 of 12" in printed
    assert f"{item.id}: 1 shared" in printed
    assert main(["items", "describe", str(items), "--tokenizer", "nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_handshake_prints_its_checks_and_sets_the_exit_code(model: Path, items: Path, tmp_path: Path, capsys) -> None:
    words = ["handshake", "--subject", str(model), "--items", str(items), "--json", "--adapters"]
    assert main([*words, "fitted:steps=3,lr=3e-2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check["passed"] for check in printed["checks"]}
    assert checks["gain-zero"]
    assert checks["effect"]
    assert checks["native"]
    assert printed["scale"]["verified"] is True
    assert printed["scale"]["gap_nats"] < 1e-3
    import torch
    from safetensors.torch import save_file

    save_file({"model.layers.1.mlp.down_proj.weight": torch.ones(48, 32)}, tmp_path / "t.safetensors")
    spec = f"dense:{tmp_path / 't.safetensors'}"
    assert main([*words, spec]) == 2
    assert "needs an update of shape [32, 48]" in capsys.readouterr().out
    run = ["audit", "--subject", str(model), "--items", str(items), "--adapters", spec, "--out", str(tmp_path / "r")]
    assert main([*run, "--quiet"]) == 2
    assert "handshake fits failed" in capsys.readouterr().err
    assert not (tmp_path / "r" / "manifest.json").exists()


def test_items_convert_without_out_goes_to_standard_output(items: Path, capsys) -> None:
    assert main(["items", "convert", str(items)]) == 0
    printed = capsys.readouterr().out
    assert [json.loads(line)["id"] for line in printed.splitlines()] == [
        json.loads(line)["id"] for line in items.read_text().splitlines()
    ]

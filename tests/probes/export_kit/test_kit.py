"""The export kit: its files are read here as the same adapters, it needs nothing of this toolkit, and it writes whole files."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from override_gap.margins.adapter import Adapter, traits_of
from override_gap.margins.items.item import documents_of
from override_gap.margins.updates import Dense, LowRank, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.export_kit import kit
from override_gap.probes.sources.compact import read_compact
from override_gap.probes.sources.compact_index import write_compact
from tests.conftest import conflict

DOCUMENTS = documents_of([conflict(1), conflict(2, "zeta eta theta"), conflict(3, "iota kappa")])
ROWS = [{"key": d.key, "ids": list(d.ids), "points": list(d.points), "document": d.text} for d in DOCUMENTS]
DOWN, BIAS = "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj.bias"
KIT = Path(kit.__file__)


def factors(n: int) -> dict:
    """Document n's factors: low rank, a dense matrix in bfloat16 of an odd size, a vector, and one with a scale of its own."""
    draw = torch.Generator().manual_seed(n)
    A, B = torch.randn(2, 5, generator=draw), torch.randn(7, 2, generator=draw)
    odd = torch.randn(3, 3, generator=draw).bfloat16()
    return {DOWN: (A, B), "model.layers.0.mlp.up_proj": odd, BIAS: torch.randn(7, generator=draw), "other.0": (A, B, 3)}


SHARED = {DOWN: (torch.ones(1, 5), torch.ones(7, 1))}


def adapter(n: int) -> Adapter:
    own = factors(n)
    updates = {
        DOWN: LowRank(*own[DOWN], 0.5),
        "model.layers.0.mlp.up_proj": Dense(own["model.layers.0.mlp.up_proj"]),
        BIAS: Vector(own[BIAS]),
        "other.0": LowRank(*own["other.0"][:2], 3.0),
    }
    return Adapter(f"mine:{DOCUMENTS[n].key}", updates, {DOWN: LowRank(*SHARED[DOWN], 0.5)})


def written(file: Path, **more) -> Path:
    kit.write(file, ROWS, (factors(n) for n in range(3)), method="mine", scale=0.5, shared=SHARED, **more)
    return file


def test_a_file_says_where_its_adapters_depend_on_the_questions(tmp_path: Path) -> None:
    plain, told = written(tmp_path / "p.safetensors"), written(tmp_path / "t.safetensors", reads_questions=True)
    assert [traits_of(read_compact(file)).reads_questions for file in (plain, told)] == [False, True]
    with safe_open(plain, framework="pt") as stream:
        assert "reads_questions" not in json.loads(stream.metadata()["index"])


def test_the_kits_file_holds_the_adapters_that_went_in(tmp_path: Path) -> None:
    source = read_compact(written(tmp_path / "k.safetensors"))
    for n, read in enumerate(source.encode(DOCUMENTS)):
        assert read.hash() == adapter(n).hash()
        for path, update in adapter(n).updates.items():
            assert torch.equal(read.updates[path].dense(), update.dense())
    assert list(tmp_path.iterdir()) == [tmp_path / "k.safetensors"]
    # safetensors' own reader finds every tensor whole, under the hash of its content
    tensors = load_file(tmp_path / "k.safetensors")
    for n in range(3):
        A = factors(n)[DOWN][0]
        name = hashlib.sha256(repr(((2, 5), "torch.float32")).encode() + A.numpy().tobytes()).hexdigest()[:24]
        assert torch.equal(tensors[name], A)


def test_the_kit_and_export_write_the_same_entries(tmp_path: Path) -> None:
    written(tmp_path / "k.safetensors")
    write_compact(tmp_path / "c.safetensors", DOCUMENTS, (adapter(n) for n in range(3)), method="mine")
    indexes = []
    for name in "kc":
        with safe_open(tmp_path / f"{name}.safetensors", framework="pt") as stream:
            indexes.append(json.loads(stream.metadata()["index"]))
    assert indexes[0] == indexes[1]


def test_native_logits_come_back_with_their_adapter_and_tokens(tmp_path: Path) -> None:
    logits = torch.randn(1, 4, 9)
    rows = [(ROWS[1]["key"], "a question", torch.tensor([[5, 6, 7, 8]]), logits)]
    file = written(
        tmp_path / "k.safetensors", native=rows, template="Learn: {document}", base="a base", settings={"x": 1}
    )
    traits = traits_of(read_compact(file))
    assert traits.template == "Learn: {document}"
    assert traits.native_examples is not None
    [example] = traits.native_examples()
    assert (example.ids, example.text) == ((5, 6, 7, 8), "a question")
    assert torch.equal(example.logits, logits[0, -1])
    assert example.adapter.hash() == adapter(1).hash()
    assert traits_of(read_compact(written(tmp_path / "without"))).native_examples is None


def test_changed_native_logits_are_an_error(tmp_path: Path) -> None:
    file = written(tmp_path / "k.safetensors", native=[(ROWS[0]["key"], "q", [1], torch.ones(9))])
    with file.open("rb+") as stream:  # native logits are the last tensor
        stream.seek(-1, 2)
        stream.write(b"\x41")
    source = read_compact(file)
    assert source.native_examples is not None
    with pytest.raises(AdapterError, match="have changed since"):
        source.native_examples()


CASES = {
    "B rank first": ({DOWN: (torch.ones(2, 5), torch.ones(2, 7))}, 1.0, "rank first has to be transposed"),
    "no scale": ({DOWN: (torch.ones(2, 5), torch.ones(7, 2))}, {"other": 1.0}, "the scale is None"),
    "not finite": ({DOWN: (torch.ones(2, 5) / 0, torch.ones(7, 2))}, 1.0, "finite"),
    "integers": ({BIAS: torch.ones(5, dtype=torch.long)}, 1.0, "floating-point"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_together_is_one_error_and_leaves_no_file(case: str, tmp_path: Path) -> None:
    bad, scale, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        kit.write(tmp_path / "k.safetensors", ROWS[:2], iter([factors(0), bad]), method="m", scale=scale)
    assert not list(tmp_path.iterdir())


def test_counts_keys_and_files_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "k.safetensors"
    for rows, count, message in (
        (ROWS, 2, "factors for 2 of them"),
        (ROWS[:2], 3, "more than the 2"),
        ([ROWS[0], ROWS[0]], 2, "there twice"),
        ([{"key": "0" * 16, "document": "another text"}], 1, "which then agree"),
    ):
        with pytest.raises(ValueError, match=message):
            kit.write(file, rows, [factors(n) for n in range(count)], method="m", scale=1.0)
    with pytest.raises(ValueError, match="none of the documents' keys"):
        kit.write(
            file, ROWS, [factors(n) for n in range(3)], method="m", scale=1.0, native=[("k", "q", [1], torch.ones(3))]
        )
    assert not list(tmp_path.iterdir())
    written(file)
    with pytest.raises(ValueError, match="exists; name a new file"):
        written(file)


def test_a_header_that_safetensors_could_not_read_is_refused_at_the_second_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"key": f"{n:016}"} for n in range(100)]
    taken = []

    def stream():
        for n in range(100):
            taken.append(n)
            yield factors(n)

    monkeypatch.setattr(kit, "LARGEST_HEADER", 50_000)
    with pytest.raises(ValueError, match=r"about \d+ such documents fit"):
        kit.write(tmp_path / "k", rows, stream(), method="m", scale=1.0)
    assert len(taken) == 2
    assert not list(tmp_path.iterdir())


KILLED = """
import importlib.util, os, sys, torch
spec = importlib.util.spec_from_file_location("kit", sys.argv[1]); kit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kit)
def stream():
    yield {"m.0": (torch.ones(1, 2), torch.ones(2, 1))}
    os.kill(os.getpid(), 9)
kit.write(sys.argv[2], [{"document": "a"}, {"document": "b"}], stream(), method="m", scale=1.0)
"""

BARE = """
import sys
sys.modules["numpy"] = None
import importlib.util
spec = importlib.util.spec_from_file_location("kit", sys.argv[1]); kit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kit)
import torch
documents = kit.read_documents(sys.argv[2])
one = {"model.layers.1.mlp.down_proj": (torch.ones(2, 5), torch.ones(7, 2))}
native = []
def stream():
    for row in documents:
        native.append((row["key"], row["questions"][0]["text"], [1, 2], torch.ones(4)))
        yield one
kit.write(sys.argv[3], documents, stream(), method="m", scale=2, native=native)
others = {name.split(".")[0] for name in sys.modules if not getattr(sys.modules[name], "__file__", None) is None}
assert not others & {"override_gap", "numpy", "transformers", "peft", "jaxtyping"}, others
"""


def test_a_killed_export_leaves_no_file_of_that_name_and_the_next_one_works(tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-c", KILLED, str(KIT), str(tmp_path / "k.safetensors")]
    assert subprocess.run(words, check=False).returncode == -9
    assert not (tmp_path / "k.safetensors").exists()
    assert list(tmp_path.iterdir())
    written(tmp_path / "k.safetensors")
    assert list(tmp_path.iterdir()) == [tmp_path / "k.safetensors"]


def test_the_kit_runs_with_torch_and_safetensors_alone(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(
        "".join(json.dumps({**row, "questions": [{"text": "why?"}]}) + "\n" for row in ROWS), encoding="utf-8"
    )
    words = [sys.executable, "-I", "-c", BARE, str(KIT), str(tmp_path / "d.jsonl"), str(tmp_path / "k.safetensors")]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    source = read_compact(tmp_path / "k.safetensors")
    assert {a.updates[DOWN].scale for a in source.encode(DOCUMENTS)} == {2.0}
    assert source.native_examples is not None
    assert len(source.native_examples()) == 3


@pytest.mark.parametrize("file", sorted(KIT.parent.glob("*.py")), ids=lambda f: f.name)
def test_the_kits_files_are_python_3_9_and_import_nothing_of_this_toolkit(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "override_gap" for name in names), f"{file.name}: {names}"


def test_reading_takes_the_bytes_of_the_documents_asked_for_and_a_shared_part_once(tmp_path: Path) -> None:
    io = Path("/proc/self/io")
    if not io.is_file():
        pytest.skip("the system does not count what a process reads")

    def read_by(work) -> int:
        before = int(io.read_text().split()[1])
        work()
        return int(io.read_text().split()[1]) - before

    rows = [{"key": d.key} for d in DOCUMENTS]
    shared = {DOWN: (torch.ones(50, 500), torch.ones(500, 50))}
    own = ({DOWN: (torch.full((50, 500), n + 2.0), torch.full((500, 50), n + 2.0))} for n in range(3))
    kit.write(tmp_path / "k", rows, own, method="m", scale=1.0, shared=shared)
    size, one = (tmp_path / "k").stat().st_size, 4 * 2 * 50 * 500
    assert read_by(lambda: read_compact(tmp_path / "k")) < 0.05 * size
    source = read_compact(tmp_path / "k")
    assert 2 * one <= read_by(lambda: source.encode(DOCUMENTS[:1])) < 2.1 * one
    assert 2 * one <= read_by(lambda: source.encode(DOCUMENTS[1:])) < 2.1 * one


BY_LAYER = [0.5, 2.0]


@pytest.mark.parametrize("stated", [1.5, [1.5, 1.5], BY_LAYER, "gains.json"])
def test_a_file_at_gains_holds_each_scale_times_its_layers_gain_and_the_same_factors(
    stated: object, tmp_path: Path
) -> None:
    def plain(n: int) -> dict:
        return {path: value for path, value in factors(n).items() if path != "other.0"}

    if stated == "gains.json":
        stated = tmp_path / "gains.json"
        stated.write_text(
            json.dumps({"format": "override-gap gains 1", "policy": "layers-0.5x1_2x1", "gains": BY_LAYER})
        )
    file = tmp_path / "tuned.safetensors"
    kit.write(file, ROWS, map(plain, range(3)), method="mine", scale=0.5, shared=SHARED, gains=stated)
    kit.write(tmp_path / "delivered", ROWS, map(plain, range(3)), method="mine", scale=0.5, shared=SHARED)
    first, second = BY_LAYER if isinstance(stated, Path) or stated == BY_LAYER else (1.5, 1.5)
    for n, ours in enumerate(read_compact(file).encode(DOCUMENTS)):
        own = factors(n)
        low, shared = ours.updates[DOWN], ours.shared[DOWN]
        assert isinstance(low, LowRank)
        assert isinstance(shared, LowRank)
        assert torch.equal(low.A, own[DOWN][0])
        assert torch.equal(low.B, own[DOWN][1])
        assert (low.scale, shared.scale) == (0.5 * second, 0.5 * second)
        up = "model.layers.0.mlp.up_proj"
        assert torch.equal(ours.updates[up].dense(), own[up].float() * first)
        assert torch.equal(ours.updates[BIAS].dense(), own[BIAS] * first)
    assert read_compact(file).notes_on(DOCUMENTS)
    before = load_file(tmp_path / "delivered")
    assert all(name in load_file(file) for name, tensor in before.items() if tensor.ndim == 2 and 5 in tensor.shape)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ([1.5], r"model\.layers\.1\.mlp\.down_proj is in none of the 1 layers"),
        (float("nan"), "every gain as a finite number"),
        (True, "need gains as a number"),
        ([], "need gains as a number"),
        ("missing.json", "cannot be read as JSON"),
        ({"policy": "ca", "gains": None}, "ca has no gain per layer"),
        ({"policy": 3, "gains": [1.0]}, "with the name of its policy"),
    ],
)
def test_gains_that_state_no_number_per_layer_are_refused(stated: object, message: str, tmp_path: Path) -> None:
    if isinstance(stated, dict):
        (tmp_path / "gains.json").write_text(json.dumps({"format": "override-gap gains 1", **stated}))
        stated = tmp_path / "gains.json"
    with pytest.raises(ValueError, match=message):
        kit.write(tmp_path / "out", ROWS, map(factors, range(3)), method="mine", scale=0.5, gains=stated)
    assert not (tmp_path / "out").exists()


def test_native_logits_are_refused_beside_gains(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="native logits are of the method as delivered"):
        written(tmp_path / "out", native=[], gains=1.5)

"""One update in every form against the base's weights edited in a copy: same margins, whatever the scale convention."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import documents_of
from override_gap.margins.updates import Dense, LowRank, Vector
from override_gap.probes.attach.stack import stack
from override_gap.probes.catalogue import ADAPTERS
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.sources.peft_folder import WEIGHTS
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import wrap
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build

ITEM = conflict(1)
[DOCUMENT] = documents_of([ITEM])
RANK = 3


def adapter_margin(subject, adapter: Adapter) -> float:
    prior = read_prior(subject, [ITEM], [locate(subject, ITEM)])
    gains = torch.ones(1, subject.n_layers)
    return read_adapted(subject, prior, stack(subject, [adapter]), gains).margins.adapter.item()


def edited_margin(edits: dict[str, torch.Tensor], family: str = "llama") -> float:
    """The adapter margin from two plain forwards, of the model and of a copy with the edits in its parameters."""
    model, tokenizer = build(family)
    subject = wrap(copy.deepcopy(model), tokenizer, "plain")
    position = locate(subject, ITEM)
    prior = read_prior(subject, [ITEM], [position])
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for name, delta in edits.items():
            changed.get_parameter(name).add_(delta)
        ids = torch.tensor([position.tokens])
        moved = (changed(input_ids=ids).logits - model(input_ids=ids).logits)[0, position.at]
    return (moved[prior.doc] - moved[prior.pre]).item()


def write_form(form: str, adapter: Adapter, folder: Path) -> str:
    """Write the adapter in a form, by that form's scale convention; returns the words for --adapters."""
    low = {path: u for path, u in adapter.updates.items() if isinstance(u, LowRank)}
    file = folder / "adapters.safetensors"
    if form in ("peft", "rslora"):
        write_adapter(adapter, folder / form)
        config = json.loads((folder / form / CONFIG).read_text())
        scale = next(iter(low.values())).scale
        root = math.sqrt(RANK) if form == "rslora" else RANK
        config |= {"lora_alpha": scale * root, "use_rslora": form == "rslora"}
        (folder / form / CONFIG).write_text(json.dumps(config))
        prefix = "base_model.model."
        factors = {f"{prefix}{p}.lora_A.weight": u.A for p, u in low.items()}
        factors |= {f"{prefix}{p}.lora_B.weight": u.B for p, u in low.items()}
        save_file(factors, folder / form / WEIGHTS)
        return str(folder / form)
    if form == "dense":
        save_file({f"{p}.weight": u.dense().contiguous() for p, u in low.items()}, file)
    if form == "compact":
        write_compact(file, [DOCUMENT], [adapter], method="mine")
    if form in ("doc-to-lora", "generative-adapter", "shine"):
        paths = sorted(low, key=lambda path: layer_of(path) or 0)
        A = torch.stack([low[p].A for p in paths])
        B = torch.stack([low[p].B for p in paths])
        scale = low[paths[0]].scale
        if form == "doc-to-lora":
            # two of the three ranks are in two chunks, the third is the head bias
            first = B.transpose(1, 2)
            chunks = {"A": A[:, :2, None].transpose(0, 1), "B": first[:, :2, None].transpose(0, 1)}
            bias = {"down_proj": {"A": A[:, 2:], "B": first[:, 2:]}}
            tensors = {f"documents/c1/down_proj/{side}": factor.contiguous() for side, factor in chunks.items()}
            tensors |= {f"shared/down_proj/{side}": factor.contiguous() for side, factor in bias["down_proj"].items()}
            save_file(tensors, file, metadata={"lora_alpha": repr(scale), "layers": json.dumps([*range(len(paths))])})
        elif form == "generative-adapter":
            tensors = {"documents/c1/down_proj/A": A, "documents/c1/down_proj/B": B}
            save_file(tensors, file, metadata={"lora_alpha": repr(scale * RANK)})
        else:
            half = {"A": A.transpose(1, 2) * scale, "B": B.transpose(1, 2)}
            save_file({f"documents/p1/down_proj/{k}": v.contiguous() for k, v in half.items()}, file)
    return f"{form}:{file}"


FORMS = ("peft", "rslora", "dense", "doc-to-lora", "compact", "generative-adapter", "shine")


@pytest.mark.parametrize("form", FORMS)
def test_the_same_update_in_every_form_gives_the_same_margin(form: str, rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, rng, ("down_proj",), rank=RANK)
    [read] = open_source(write_form(form, adapter, tmp_path), subject).encode([DOCUMENT])
    wanted = edited_margin({f"{p}.weight": u.dense() for p, u in adapter.updates.items()})
    assert abs(wanted) > 0.01
    assert abs(adapter_margin(subject, read) - wanted) < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_a_form_without_native_logits_does_not_verify_its_scale(
    form: str, rng: torch.Generator, tmp_path: Path
) -> None:
    """All else passes, so nothing but this says that the same file at another scale would have passed too."""
    subject = tiny("llama")
    spec = write_form(form, random_adapter(subject, rng, ("down_proj",), rank=RANK), tmp_path)
    result = check_adapters(subject, open_source(spec, subject), [ITEM])
    assert not result.failed
    assert result.scale.verified is None
    assert result.scale.says.startswith("not verified: the source offers no logits")


def test_the_head_bias_is_the_shared_part(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, rng, ("down_proj",), rank=RANK)
    [read] = open_source(write_form("doc-to-lora", adapter, tmp_path), subject).encode([DOCUMENT])
    path = "model.layers.1.mlp.down_proj"
    whole = read.updates[path].dense() + read.shared[path].dense()
    assert torch.allclose(whole, adapter.updates[path].dense(), atol=1e-5)
    assert read.shared[path].rank == 1


def test_shines_bias_equals_an_edited_bias(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("qwen2")
    C = torch.randn(subject.n_layers, 32, generator=rng)
    A, B = torch.zeros(subject.n_layers, 32, 1), torch.zeros(subject.n_layers, 1, 32)
    tensors = {f"documents/c1/q_proj/{name}": t for name, t in (("A", A), ("B", B), ("C", C))}
    save_file(tensors, tmp_path / "s.safetensors")
    [read] = open_source(f"shine:{tmp_path / 's.safetensors'}", subject).encode([DOCUMENT])
    edits = {f"model.layers.{n}.self_attn.q_proj.bias": C[n] for n in range(subject.n_layers)}
    assert abs(adapter_margin(subject, read) - edited_margin(edits, "qwen2")) < 1e-4


def test_a_dense_file_of_conv1d_weights_is_in_the_models_orientation(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("gpt2")
    # square, so that the shape cannot tell the orientations apart
    name = "transformer.h.1.attn.c_proj.weight"
    edits = {name: torch.randn(32, 32, generator=rng) * 0.3, "transformer.h.1.mlp.c_fc.bias": torch.ones(48)}
    save_file(edits, tmp_path / "d.safetensors")
    [read] = open_source(f"dense:{tmp_path / 'd.safetensors'}", subject).encode([DOCUMENT])
    assert abs(adapter_margin(subject, read) - edited_margin(edits, "gpt2")) < 1e-4


def test_compact_keeps_every_kind_and_notices_a_change(rng: torch.Generator, tmp_path: Path) -> None:
    subject, file = tiny("llama"), tmp_path / "c.safetensors"
    low = random_adapter(subject, rng, ("down_proj",))
    more = {
        "model.layers.0.mlp.up_proj": Dense(torch.ones(48, 32)),
        "model.layers.0.mlp.up_proj.bias": Vector(torch.ones(48)),
    }
    adapter = Adapter("mixed", {**low.updates, **more}, low.updates)
    write_compact(file, [DOCUMENT], [adapter], method="mine", base_fingerprint="abc")
    source = open_source(f"compact:{file}", subject)
    [read] = source.encode([DOCUMENT])
    assert read.hash() == adapter.hash()
    assert set(read.shared) == set(adapter.shared)
    with file.open("rb+") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x41")
    with pytest.raises(AdapterError, match="has changed since it was written"):
        source.encode([DOCUMENT])


def test_any_set_exported_to_peft_is_reproduced_by_peft(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, rng, ("down_proj",), rank=RANK)
    [read] = open_source(write_form("doc-to-lora", adapter, tmp_path), subject).encode([DOCUMENT])
    write_adapter(read, tmp_path / "exported")
    model, _ = build("llama")
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(model, tmp_path / "exported")(input_ids=ids).logits
        plain, _ = build("llama")
        for path, update in adapter.updates.items():
            plain.get_parameter(f"{path}.weight").add_(update.dense())
        assert (theirs - plain(input_ids=ids).logits).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("tensors", "metadata", "form", "message"),
    [
        ({"documents/c1/down_proj/A": torch.ones(3, 1, 48)}, {"lora_alpha": "2"}, "doc-to-lora", "need both"),
        ({"documents/c1/down_proj/A": torch.ones(3, 1, 48)}, {}, "doc-to-lora", "size is unknown"),
        (
            {"documents/zz/down_proj/A": torch.ones(3, 1, 48)},
            {"lora_alpha": "2"},
            "doc-to-lora",
            "nothing for document",
        ),
        ({"model.layers.1.mlp.dwn_proj.weight": torch.ones(2, 2)}, {}, "dense", "no linear map"),
        ({"x": torch.ones(2)}, {}, "compact", "need a file with format"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(tensors, metadata, form, message, tmp_path: Path) -> None:
    file = tmp_path / "f.safetensors"
    save_file(tensors, file, metadata=metadata)
    with pytest.raises(AdapterError, match=message):
        open_source(f"{form}:{file}", tiny("llama")).encode([DOCUMENT])


def test_a_file_without_its_form_is_told_which_forms_read_it(rng: torch.Generator, tmp_path: Path) -> None:
    subject, compact, plain = tiny("llama"), tmp_path / "c.safetensors", tmp_path / "p.safetensors"
    write_compact(compact, [DOCUMENT], [random_adapter(subject, rng, ("down_proj",))], method="m")
    save_file({"x": torch.ones(2)}, plain)
    with pytest.raises(AdapterError, match=r"a file needs its form before it; write compact:\S+/c\.safetensors$"):
        open_source(str(compact), subject)
    with pytest.raises(
        AdapterError, match=r"; write compact:\S+/p\.safetensors, or one of dense:, .*prefix:$"
    ) as fault:
        open_source(str(plain), subject)
    forms = {form.partition(":")[0] for form in ADAPTERS if form.endswith(":FILE")}
    assert all(f"{form}:" in str(fault.value) for form in forms)
    plain.write_bytes(b"no header")
    with pytest.raises(AdapterError, match="not a safetensors file"):
        open_source(str(plain), subject)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "f.pt")
    with pytest.raises(AdapterError, match="pickle"):
        open_source(f"dense:{tmp_path / 'f.pt'}", tiny("llama")).encode([DOCUMENT])


def test_a_function_from_text_to_factors(rng: torch.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text_to_factors.py").write_text(
        "import torch\n"
        "def factors(text):\n"
        "    draw = torch.Generator().manual_seed(len(text))\n"
        "    A, B = torch.randn(2, 48, generator=draw), torch.randn(32, 2, generator=draw)\n"
        "    return {'model.layers.1.mlp.down_proj': (A, B, 0.5)}\n"
        "def unscaled(text):\n"
        "    return {'model.layers.1.mlp.down_proj': factors(text)['model.layers.1.mlp.down_proj'][:2]}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    subject = tiny("llama")
    [read] = open_source("callable:text_to_factors:factors", subject).encode([DOCUMENT])
    draw = torch.Generator().manual_seed(len(DOCUMENT.text))
    A, B = torch.randn(2, 48, generator=draw), torch.randn(32, 2, generator=draw)
    wanted = edited_margin({"model.layers.1.mlp.down_proj.weight": 0.5 * (B @ A)})
    assert abs(adapter_margin(subject, read) - wanted) < 1e-4
    with pytest.raises(AdapterError, match="scale"):
        open_source("callable:text_to_factors:unscaled", subject).encode([DOCUMENT])


LAYERED = {
    "one name for three layers": (3, 3, None, "[0]", "needs 3 different numbers"),
    "one layer three times": (3, 3, None, "[0, 0, 0]", "needs 3 different numbers"),
    "more layers than tensors": (2, 2, None, "[0, 1, 2]", "needs 2 different numbers"),
    "more layers in B": (2, 3, None, None, "got 2 in A, 3 in B"),
    "fewer layers in B": (3, 2, None, None, "got 3 in A, 2 in B"),
    "more layers in C": (3, 3, 4, None, "3 in B, 4 in C"),
    "layers in order": (3, 3, 3, "[2, 0, 1]", None),
}


@pytest.mark.parametrize("case", LAYERED)
def test_a_layered_file_whose_layers_do_not_match_is_refused(case: str, tmp_path: Path) -> None:
    in_a, in_b, in_c, layers, message = LAYERED[case]
    tensors = {"A": torch.ones(in_a, 32, 1), "B": torch.ones(in_b, 1, 32)}
    if in_c is not None:
        tensors["C"] = torch.arange(in_c)[:, None].expand(in_c, 32).float().contiguous()
    named = {f"documents/c1/q_proj/{name}": tensor for name, tensor in tensors.items()}
    save_file(named, tmp_path / "s.safetensors", {"layers": layers} if layers else None)
    source = open_source(f"shine:{tmp_path / 's.safetensors'}", tiny("qwen2"))
    if message is None:
        [read] = source.encode([DOCUMENT])
        of_layer = [read.updates[f"model.layers.{n}.self_attn.q_proj.bias"].dense()[0].item() for n in range(3)]
        assert of_layer == [1.0, 2.0, 0.0]
        return
    with pytest.raises(AdapterError, match=message) as error:
        source.encode([DOCUMENT])
    assert "\n" not in str(error.value)

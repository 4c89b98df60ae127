"""Policies as users name them: what is no policy of gains is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.gain_policies import PerLayer, TopNorm, Uniform
from override_gap.margins.gains_file import GainsFile, write_gains
from override_gap.margins.named_policy import named_policy
from override_gap.margins.updates import LowRank

ADAPTER = Adapter(
    "mine",
    {f"layers.{n}.down": LowRank(torch.eye(2)[:1], torch.ones(2, 1), float(n + 1)) for n in range(4)},
)


def test_names_are_those_of_conditions() -> None:
    assert named_policy("uniform-1.5").policy == Uniform(1.5)
    assert named_policy("as-delivered").policy == Uniform(1.0)
    assert named_policy("slb").policy == TopNorm()
    assert named_policy("layers-1.5x3_2x1").policy == PerLayer((1.5, 1.5, 1.5, 2.0))
    assert named_policy(Uniform(2.0)).name is None


def test_gains_are_the_policys_for_this_adapter() -> None:
    assert named_policy("slb").gains(ADAPTER, 4) == (1.0, 1.0, 1.0, 1.75)  # the layer of largest norm is the last
    assert named_policy("layers-1.5x3_2x1").gains(ADAPTER, 4) == (1.5, 1.5, 1.5, 2.0)
    drawn = {named_policy("random-layers").gains(ADAPTER, 4, text) for text in "abcdefgh"}
    assert len(drawn) > 1  # by the document


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("uniform", "stands for several gains"),
        ("in-context", "no policy of gains"),
        ("logit-fusion", "no policy of gains"),
        ("unifrom-1.5", "unknown policy"),
        ("missing.json", "missing.json"),
    ],
)
def test_what_is_no_policy_of_gains_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_policy(name)


def test_gains_for_another_number_of_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="states gains for 3 layers, and the model has 4"):
        named_policy("layers-1.5x3").gains(ADAPTER, 4)


def test_a_file_chosen_on_another_methods_adapters_is_noted(tmp_path: Path) -> None:
    content = GainsFile(
        policy="uniform-1.25",
        gains=(1.25, 1.25),
        looks_at_question=False,
        recommendation="scale",
        says="Use uniform-1.25.",
        budget={"keep": 0.95, "kl": None, "measure": "top1"},
        subject={"name": "organism", "fingerprint": "f"},
        adapters={"name": "hypernetwork", "hash": "h"},
        items={"sha256": "i", "n": 1},
    )
    write_gains(content, tmp_path / "gains.json")
    policy = named_policy(tmp_path / "gains.json")
    assert policy.notes_on("f") == policy.notes_on("f", "hypernetwork") == []
    [note] = policy.notes_on("f", "fitted")
    assert "chosen on the adapters of hypernetwork, these are of fitted" in note


def test_a_number_is_one_gain_for_all_layers() -> None:
    assert named_policy(1.5).policy == Uniform(1.5)
    for wrong in (-1.0, float("nan"), True):
        with pytest.raises(ValueError, match="gain"):
            named_policy(wrong)  # type: ignore[arg-type]

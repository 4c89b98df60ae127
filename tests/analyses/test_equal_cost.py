"""Equal KL against closed forms: items flip at gains of a known distribution, and a KL of known growth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from override_gap.analyses import equal_cost, matched_retention
from override_gap.analyses.compare.conditions import against_delivered
from override_gap.analyses.readings import RunFrame

SWEEP = {"base": 0.0, "as-delivered": 1.0, "uniform-1.25": 1.25, "uniform-1.5": 1.5, "uniform-2": 2.0, "uniform-3": 3.0}
FLIPS = stats.lognorm(s=0.5, scale=1.2)
"""The gain at which a conflict flips; override at gain g is its distribution function."""


def run_of(rng, policies: dict[str, tuple[float, float]], conflicts: int = 150, others: int = 150, **more) -> RunFrame:
    """Two questions a point. `policies`: the gain that each has on conflicts, and on unrelated questions."""
    flips, scale = FLIPS.rvs(conflicts, random_state=rng), rng.lognormal(-3, 0.8, others)
    keeps = rng.exponential(6, others) + 1
    rows = []
    for name, (on, off) in {**{name: (g, g) for name, g in SWEEP.items()}, **policies}.items():
        for n in range(conflicts):
            rows.append({"item": f"c{n}", "point": f"c{n // 2}", "split": "conflict", "condition": name,
                         "success_top1": bool(flips[n] < on), "kl": 9.9})  # fmt: skip
        for n in range(others):
            rows.append({"item": f"r{n}", "point": f"r{n // 2}", "split": "retention", "condition": name,
                         "success_top1": bool(off < keeps[n]), "kl": scale[n] * off**2})  # fmt: skip
    blank = dict.fromkeys(("prior_logprob", "prior_margin", "push", "pull", "adapter_margin", "net_margin"), 0.0)
    frame = pd.DataFrame(rows).assign(known=True, status="ok", error=None, success_margin=True, **blank).assign(**more)
    return RunFrame({"conditions": list(dict.fromkeys(frame["condition"]))}, frame)


def at_kl(run: RunFrame, seed: int = 0, replicates: int = 1000) -> list[equal_cost.Matched]:
    found = equal_cost.matched(run, seed, replicates)
    assert found is not None
    return found[equal_cost.KL]


def test_the_gain_of_equal_kl_is_read_where_the_kl_is_equal() -> None:
    """KL grows with the square of the gain, so that its root is a line, and no gain between those read is off by much."""
    rng = np.random.default_rng(0)
    run = run_of(rng, {"slb": (1.7, 1.35), "ca": (1.0, 0.6), "logit-fusion-1.5": (2.0, 2.0), "in-context": (2.0, 5.0)})
    slb, ca, same, beyond = at_kl(run)
    assert slb.gain == pytest.approx(1.35, abs=0.003)
    assert ca.gain == pytest.approx(0.6, abs=0.003)
    assert "no gain between 0 and 1 was read, so the match is interpolated there" in ca.difference.caveats
    assert same.difference.value == pytest.approx(0, abs=1e-9)
    assert same.p > 0.3
    assert beyond.gain == 3.0
    assert "KL lies outside that of the uniform gains" in beyond.difference.caveats[0]


@pytest.mark.parametrize(("on", "off"), [(1.7, 1.35), (1.3, 1.7), (1.6, 1.6)])
def test_intervals_hold_the_true_difference(on: float, off: float) -> None:
    truth = FLIPS.cdf(on) - FLIPS.cdf(off)
    inside = above = below = 0
    for seed in range(60):
        (found,) = at_kl(run_of(np.random.default_rng(seed), {"slb": (on, off)}, 100, 100), seed, 300)
        inside += found.difference.low <= truth <= found.difference.high
        above, below = above + (found.above < 0.025), below + (found.above > 0.975)
    assert inside >= 53, "57 of 60 are expected; fewer than 53 has probability .01"
    if on == off:
        assert above + below <= 7
    else:
        assert (above if on > off else below) >= 50
        assert (below if on > off else above) == 0


def test_interval_and_p_are_of_one_test() -> None:
    for seed in range(20):
        (found,) = at_kl(run_of(np.random.default_rng(seed), {"slb": (1.45, 1.3)}, 80, 80), seed, 400)
        assert (found.p < 0.05) == (found.difference.low > 0 or found.difference.high < 0)


def test_a_policy_that_cannot_be_applied_to_unrelated_questions_is_in_no_comparison_and_its_reason_is_stated() -> None:
    run = run_of(np.random.default_rng(0), {"margin-matched": (1.7, 1.0), "ca": (1.7, 1.3)})
    frame = run.readings
    of = {name: (frame["condition"] == name) & (frame["split"] == "retention") for name in ("margin-matched", "ca")}
    refused = (of["margin-matched"] & ~frame["item"].isin(["r0", "r1", "r2"])) | (of["ca"] & (frame["item"] == "r0"))
    frame.loc[refused, ["status", "error"]] = "refused", "the policy needs more"
    section = matched_retention.matched_retention(RunFrame(run.manifest, frame))
    assert section is not None
    for name in ("comparisons", "kl"):
        assert [row["condition"] for row in section[name]] == ["ca"], "three answers that were read are no price"
    assert "margin-matched" not in {row["condition"] for row in section["frontier"]}
    assert "ca" in {row["condition"] for row in section["frontier"]}
    paired = against_delivered(RunFrame(run.manifest, frame)).as_json()
    named = {(row["first"], row["split"]) for row in paired}
    assert ("margin-matched", "conflict") in named
    assert ("ca", "retention") in named
    assert ("margin-matched", "retention") not in named, "three answers that were read are no comparison either"
    assert section["refused"] == [
        {"condition": "margin-matched", "n": 147, "of": 150, "reason": "the policy needs more"},
        {"condition": "ca", "n": 1, "of": 150, "reason": "the policy needs more"},
    ]
    assert "margin-matched: refused on 147 of 150 unrelated questions: the policy needs more" in str(section)


def test_a_run_without_kl_is_compared_at_equal_retention_alone() -> None:
    run = run_of(np.random.default_rng(0), {"slb": (1.7, 1.35)}, kl=None)
    found = equal_cost.matched(run)
    assert found is not None
    assert found[equal_cost.KL] == []
    assert [row.condition for row in found[equal_cost.RETENTION]] == ["slb"]
    section = matched_retention.matched_retention(run)
    assert section is not None
    assert all(row["kl"] is None for row in section["frontier"])


def test_relations_widen_the_interval() -> None:
    run = run_of(np.random.default_rng(1), {"slb": (1.7, 1.35)})
    (alone,) = at_kl(run)
    relation = run.readings["point"].str.removeprefix("c").str.removeprefix("r").astype(int) % 12
    (within,) = at_kl(RunFrame(run.manifest, run.readings.assign(cluster=relation.map("relation {}".format))))
    assert within.difference.clusters == 12
    assert within.difference.low <= alone.difference.low
    assert within.difference.high >= alone.difference.high

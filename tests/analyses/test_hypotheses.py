"""No hypothesis may be supported on data drawn from its opposite."""

import pytest

from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.hypotheses import STANDARD, Finding, Hypothesis, evaluate
from tests.analyses.searched import searched_run
from tests.analyses.test_causes import CASES
from tests.simulate import simulate_readings

CONDITIONS = ("base", "as-delivered", "uniform-1.5", "uniform-2", "uniform-3", "slb", "random-layers", "random-matched")
BY_ID = {hypothesis.id: hypothesis for hypothesis in STANDARD}


def statuses(name, seeds, **settings):
    """How often each status came up for one hypothesis tested alone (so without Holm's help)."""
    others = 240 if name == "H5" else 0
    conditions = CONDITIONS if name == "H5" else CONDITIONS[:5]
    found = []
    for seed in range(seeds):
        run = simulate_readings(seed, conditions=conditions, others=others, with_layers=False, **settings)
        found.append(evaluate(run, [BY_ID[name]])[0].status)
    return found


OPPOSITES = [
    ("H1", {"fault": "reversed"}),
    ("H2", {"fault": "growing"}),
    ("H2", {"fault": "reversed"}),
    ("H3", {"fault": "broken-criterion"}),
    ("H5", {"specificity": "worse"}),
]


@pytest.mark.parametrize(("name", "settings"), OPPOSITES)
def test_never_supported_on_its_opposite(name, settings):
    found = statuses(name, 12, **settings)
    assert "supported" not in found
    assert found.count("refuted") >= 6


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("H1", {"fault": "magnitude"}, 12),
        ("H2", {"fault": "magnitude"}, 11),
        ("H3", {"fault": "magnitude"}, 10),
        ("H5", {"specificity": "chosen"}, 3),
    ],
)
def test_supported_where_true(name, settings, least):
    found = statuses(name, 12, **settings)
    assert found.count("supported") >= least
    assert "refuted" not in found


@pytest.mark.parametrize(
    ("name", "settings", "runs"), [("H1", {"fault": "flat"}, 80), ("H5", {"specificity": "none"}, 12)]
)
def test_level_under_the_null(name, settings, runs):
    # 80 runs at 5% give more than 8 with probability 0.02; the seeds are fixed
    assert statuses(name, runs, **settings).count("supported") <= max(2, runs // 10)


def test_unknown_frequency_and_missing_splits_are_said():
    run = simulate_readings(0, frequency=False, conditions=("base", "as-delivered"), others=0, with_layers=False)
    found = {result.hypothesis.id: result for result in evaluate(run)}
    assert found["H2"].status == "supported"
    assert found["H2"].finding is not None
    assert "frequency is unknown" in found["H2"].finding.effect
    assert found["H5"].status == "not testable"
    assert found["H1"].status == "supported"


def test_a_hypothesis_of_ones_own():
    def louder(run):
        found = comparison.conditions(run, "uniform-2", "as-delivered")
        return Finding(found.difference, found.above, 1 - found.above, "") if found else "no uniform-2 condition"

    mine = Hypothesis("U1", "Doubling the adapter helps.", "paired test below 5%", louder)
    run = simulate_readings(0, conditions=CONDITIONS[:5], others=0, with_layers=False)
    results = evaluate(run, [*STANDARD, mine])
    assert results[-1].status == "supported"
    assert set(results[-1].as_json()) >= {"id", "claim", "rule", "status", "estimate", "effect", "p", "p_holm"}
    assert results[-1].p_holm >= results[-1].finding.p
    without = simulate_readings(0, conditions=("base", "as-delivered"), others=0, with_layers=False)
    assert evaluate(without, [mine])[0].reason == "no uniform-2 condition"


@pytest.mark.parametrize(
    ("cause", "status"),
    [("too weak", "supported"), ("at a price", "supported"), ("no content", "refuted"), ("third token", "refuted")],
)
def test_scaling_rescues_what_a_larger_gain_repairs_with_content(cause, status):
    run = searched_run(dict.fromkeys(range(50), CASES[cause]))
    (result,) = evaluate(run, [hypothesis for hypothesis in STANDARD if hypothesis.id == "H4"])
    assert result.status == status


def test_scaling_is_not_testable_without_a_search():
    assert set(statuses("H4", 2, fault="magnitude")) == {"not testable"}

"""No hypothesis may be supported on data drawn from its opposite."""

import numpy as np
import pytest

from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.hypotheses import STANDARD, Finding, Hypothesis, evaluate
from tests.analyses.searched import searched_run
from tests.analyses.test_causes import CASES
from tests.simulate import simulate_readings
from tests.simulated_worlds import Acts, RelationWorld, as_run, facts, priced_run, uniform

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


RANDOM = {"random-layers": uniform(1.25), "random-matched": uniform(1.25)}


@pytest.mark.parametrize(
    ("slb", "most", "least"),
    [
        (Acts(3.0, 1.25, 1.25), 4, 3),  # truly better: the override of gain 3 at the cost of 1.25
        (Acts(1.75, 1.75, 1.25), 1, 0),  # better at equal KL alone
        (Acts(1.75, 1.25, 1.75), 1, 0),  # better at equal retention alone
    ],
)
def test_layers_have_to_be_better_at_both_costs(slb, most, least):
    world = RelationWorld(relations=40, n=300, sizes="equal", icc=0.3)
    rngs = [np.random.default_rng(seed) for seed in range(4)]
    found = [evaluate(priced_run(rng, world, {"slb": slb} | RANDOM), [BY_ID["H5"]])[0] for rng in rngs]
    assert all(result.finding is not None and "equal KL" in result.finding.effect for result in found)
    assert least <= [result.status for result in found].count("supported") <= most


@pytest.mark.parametrize(("passes_on", "least", "most"), [(1.0, 8, 12), (0.75, 0, 2), (1.25, 0, 2), (0.3, 0, 0)])
def test_pass_through_is_constant_at_one_alone(passes_on, least, most):
    # The adapter margin takes 1 - passes_on of the prior margin, so that the slope of adapted on base margin is passes_on.
    world = RelationWorld(relations=30, n=600, sizes="equal", icc=0.2, tie=1 - passes_on)
    runs = [as_run(facts(np.random.default_rng(seed), world), frequency=np.nan) for seed in range(12)]
    found = [evaluate(run, [BY_ID["H2"]])[0] for run in runs]
    assert all(result.finding is not None and "least squares" in result.finding.effect for result in found)
    assert least <= [result.status for result in found].count("supported") <= most


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

"""A plan resolved: how many conditions a run may have, said before anything is opened."""

import pytest

from override_gap.margins.items.item import Item
from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.run.resolve import MOST_CONDITIONS, resolve
from override_gap.reports.cli.main import main

ITEM = Item.novel("The seat of Ostavia is Lyon.", "The seat of Ostavia is", answer="Lyon")


def gains(count):
    """So many policies, one gain each; the base and as-delivered are measured beside them."""
    return ",".join(f"uniform-{2 + number / 1000:.3f}" for number in range(count))


def test_a_run_has_at_most_a_thousand_conditions_with_the_base():
    allowed = Plan(policies=gains(MOST_CONDITIONS - 2), probes=("margins",))
    assert len(resolve(allowed, [ITEM]).conditions) == MOST_CONDITIONS
    with pytest.raises(PlanError, match=r"1,001 conditions, .* a run has at most 1,000") as raised:
        resolve(Plan(policies=gains(MOST_CONDITIONS - 1), probes=("margins",)), [ITEM])
    assert "\n" not in str(raised.value)


def test_the_command_says_so_before_it_opens_the_model(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["audit", "--subject", str(tmp_path / "none"), "--policies", gains(5000), "--out", str(out)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "5,002 conditions" in line
    assert not out.exists()

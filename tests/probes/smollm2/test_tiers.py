"""docs/calibration/tiers.md: the tiers are ordered, their intervals apart, and the figures are measured again."""

import re
from pathlib import Path

import pytest

from benchmarks.tiers import FORMS, medians
from override_gap.probes.environment import home
from override_gap.probes.items import open_items
from override_gap.probes.subject.load import open_subject

PAGE = Path(__file__).parents[3] / "docs/calibration/tiers.md"


@pytest.fixture(scope="module")
def page_figures():
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\S+) \[(\S+), (\S+)\]", PAGE.read_text(), flags=re.M)
    return {(form, tier): tuple(map(float, numbers)) for form, tier, *numbers in rows}


@pytest.mark.parametrize("form", FORMS)
def test_the_tiers_are_ordered_and_their_intervals_apart(page_figures, form):
    light, medium, deep = (page_figures[form, tier] for tier in ("light", "medium", "deep"))
    assert light[0] < medium[0] < deep[0]
    assert light[2] < medium[1], "light and medium overlap"
    assert medium[2] < deep[1], "medium and deep overlap"


@pytest.mark.skipif(not (home() / "smollm2").is_dir(), reason="`make smollm2` fetches the model")
def test_the_page_matches_the_base(page_figures):
    smollm2 = open_subject("smollm2", device="cpu")
    items = [item for item in open_items("benchmark") if item.split == "conflict"]
    for (form, tier), median in medians(smollm2, items).items():
        assert median.value == pytest.approx(page_figures[form, tier][0], abs=0.011)

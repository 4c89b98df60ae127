"""The first screen tells a scale that is not verified, digest and exports tell either; without a record it is not verified."""

from __future__ import annotations

from typing import Any

import pytest

from override_gap.reports import figures
from override_gap.reports.cli._digest import digest
from override_gap.reports.export.latex import latex
from override_gap.reports.export.markdown import markdown, model_card
from override_gap.reports.page.document import render
from override_gap.reports.text import scale_is_verified, scale_message
from tests.reports.test_schema import SCHEMA, defects

SAID = "verified to 3e-5 nats against the method's own logits (2 texts)"
HOSTILE = "not verified: <script>alert(1)</script> \u202e"


def record(verified: bool | None, says: str) -> dict[str, Any]:
    checks = [{"name": "native", "passed": verified, "says": says}]
    return {"checks": checks, "scale": {"verified": verified, "gap_nats": 3e-5, "says": says}}


@pytest.mark.usefixtures("svg_only")
def test_the_first_screen_says_whether_the_scale_is_verified(run, summary, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", ())
    pages = {
        name: render(run, summary | {"handshake": own}, tmp_path)
        for name, own in {"yes": record(True, SAID), "no": record(None, HOSTILE), "none": None}.items()
    }
    assert "verified to 3e-5 nats against the method" in pages["yes"]
    assert 'data-key="handshake.scale" data-verified="yes"' in pages["yes"]
    assert 'data-verified="no"' in pages["no"]
    assert "<script>alert(1)" not in pages["no"]
    assert "[U+202E]" in pages["no"]
    assert "Scale: not verified: no check of it is recorded for this run" in pages["none"]
    for name, text in pages.items():
        # a scale that is verified is not said before the hypotheses, where room is short
        first = text.index('data-key="handshake.scale"') < text.index('id="hypotheses"')
        assert first == (name != "yes"), name


def test_the_digest_and_the_exports_say_it_too(summary) -> None:
    known = summary | {"handshake": record(True, SAID)}
    assert f"scale: {SAID}" in " ".join(digest(known).split())
    assert all(len(line) <= 80 for line in digest(known).splitlines())
    assert "Scale: verified to 3e-5 nats against the method's own logits" in markdown(known)
    assert "Scale: verified to 3e-5 nats" in model_card(known)
    assert "Scale: verified to 3e{-}5 nats" in latex(known)
    bare = summary | {"handshake": None}
    for text in (digest(bare), markdown(bare), latex(bare)):
        assert "not verified: no check of it is recorded" in " ".join(text.split())


@pytest.mark.parametrize("broken", [None, {}, {"scale": None}, {"scale": {"verified": "yes"}}, {"scale": {"says": 3}}])
def test_what_holds_no_record_is_not_verified(broken: Any) -> None:
    assert not scale_is_verified(broken)
    assert scale_message(broken).startswith("scale: not verified")


def test_the_schema_takes_every_kind_of_record_and_no_other() -> None:
    schema = SCHEMA["properties"]["handshake"]
    for good in (None, record(True, SAID), record(None, "not verified"), record(False, "not verified")):
        assert not list(defects(good, schema))
    worse = record(True, SAID) | {"scale": {"verified": "yes", "gap_nats": -1, "says": ""}}
    for bad in ({}, {"checks": []}, worse):
        assert list(defects(bad, schema))

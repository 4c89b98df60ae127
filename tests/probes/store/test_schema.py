"""The schema states what has always been on disk, and nothing else can be written."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from override_gap.analyses.readings import load
from override_gap.margins.items.item import Item
from override_gap.probes.plan import Plan
from override_gap.probes.run import rows
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.doctor import diagnose
from override_gap.probes.store.folder import Store
from override_gap.probes.store.schema import DRAWN, LAYERS, READINGS, TABLES, markdown
from override_gap.probes.store.table_checks import kind
from override_gap.reports.page.explorer import explorer
from tests.conftest import conflict, tiny

ROOT = Path(__file__).parents[3]

ON_DISK = {
    "readings": (
        "item string, point string, split string, tier string, condition string, known bool, prior_logprob double, "
        "prior_logprob_per_token double, prior_margin double, push double, pull double, adapter_margin double, "
        "net_margin double, success_margin bool, success_top1 bool, success_answer bool, success_answer_substring bool, "
        "answer_text string, base_top_token string, base_top_prob double, gain_mean double, adapter_norm double, "
        "n_question_tokens int64, status string, error string, frequency double, wording string, top_token string, "
        "top_prob double, doc_logprob double, question string, document string, answer string, prior_answer string, "
        "critical_gain double, critical_gain_predicted double, aliases list<item: string>, "
        "prior_aliases list<item: string>, prior_from string, n_prior_tokens int64, n_answer_tokens int64, "
        "relation string, cluster string, kl double, path_nodes int64, path_gap double, "
        "kind string, needs string, meta string"
    ),
    "layers": (
        "item string, point string, split string, condition string, layer int64, norm double, weight_norm double, gain double, "
        "attribution double, lens double, direct double, alone double, removed double, "
        "path double, path_push double, path_pull double, path_first double"
    ),
    "drawn": (
        "item string, point string, split string, tier string, condition string, known bool, temperature double, "
        "draw int64, answer_text string, success_answer bool, success_answer_substring bool"
    ),
    "search": (
        "item string, point string, split string, condition string, gain double, push double, pull double, "
        "net_margin double, success_top1 bool, top_token string, doc_logprob double, rise_rank double, "
        "rise_rank_relation double, rise_level_relation double, rise_rank_base double, push_excess double, "
        "doc_place int64, doc_place_relation int64, "
        "other_answers int64, kl double, kept double, broken bool, answer_text string, success_answer bool"
    ),
}
REQUIRED = {
    "readings": (
        "item point split condition known prior_logprob prior_margin push pull adapter_margin net_margin success_margin "
        "success_top1 status error"
    ),
    "layers": "item condition layer",
    "drawn": "item point split condition temperature success_answer",
    "search": "item point split condition gain kl kept broken",
}
FILLED = {
    "readings": "item point split condition status",
    "layers": "item condition layer",
    "drawn": "item point split condition temperature",
    "search": "item point split condition gain broken",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every probe was measured."""
    out = tmp_path_factory.mktemp("run")
    items = [conflict(n, "alpha beta", "red", "blue", tier="deep", aliases=("rose",)) for n in range(2)]
    items = [replace(item, meta={"frequency": 3, "wording": "plain", "relation": "colour"}) for item in items]
    plan = Plan(
        subject="tiny",
        adapters="fitted",
        items="own",
        policies="as-delivered,slb",
        probes=("margins", "layers", "critical", "causal", "answers", "sampled"),
        temperatures=(0.5,),
        draws=1,
    )
    subject = tiny("llama")
    run(plan, subject, FittedAdapters(subject, steps=1), items, out)
    return out


def written(folder: Path, table: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted((folder / table).glob("*.parquet"))])


@pytest.mark.parametrize("name", ON_DISK)
def test_names_order_and_types_on_disk_are_those_of_every_version(name: str, folder: Path) -> None:
    assert ", ".join(f"{field.name} {field.type}" for field in TABLES[name].arrow) == ON_DISK[name]
    for file in (folder / name).glob("*.parquet"):
        stored = pq.read_schema(file).remove_metadata()
        assert [(f.name, kind(f.type)) for f in stored] == [(f.name, kind(f.type)) for f in TABLES[name].arrow]
    assert TABLES[name].required == REQUIRED[name].split()
    assert [column.name for column in TABLES[name].columns if column.presence == "filled"] == FILLED[name].split()


# the model of this run knows none of its old answers, so that no failure is searched: tests/probes/run/test_search.py
@pytest.mark.parametrize("name", ["readings", "layers", "drawn"])
def test_every_stated_column_is_written_by_some_probe(name: str, folder: Path) -> None:
    table = written(folder, name)
    empty = {column for column in table.column_names if table.column(column).null_count == len(table)}
    unread = {
        "readings": {"error", "prior_from", "path_nodes", "path_gap", "kind", "needs"},
        "layers": {c for c in LAYERS.names if "path" in c},
    }
    assert empty == unread.get(name, set())


def test_a_column_that_is_not_stated_cannot_be_written(tmp_path: Path) -> None:
    row = rows.failed(Item("a", "p", "conflict", "It is red.", "What is it?", "red", "blue"), "base", "no reason")
    store = Store(tmp_path / "run")
    store.open({"conditions": ["base"]}, "identity")
    with pytest.raises(ValueError, match=r"readings has no column remark; state it in .*schema"):
        store.write_unit("unit", [row, {**row, "remark": 1}], [])
    with pytest.raises(ValueError, match="layers has no column depth"):
        store.write_unit("unit", [row], [{"item": "a", "condition": "base", "layer": 0, "depth": 1.0}])
    assert not store.keys()


def test_files_of_the_first_version_are_read(folder: Path, tmp_path: Path) -> None:
    """They have neither checksums nor aliases."""
    old = tmp_path / "run"
    for name in ("readings", "layers"):
        (old / name).mkdir(parents=True)
        table = written(folder, name).replace_schema_metadata(None)
        pq.write_table(table.drop_columns([c for c in table.column_names if "aliases" in c]), old / name / "u.parquet")
    manifest = {**Store(folder).manifest(), "units": 1}
    for later in ("checksum", "memory", "seals"):
        del manifest[later]
    (old / "manifest.json").write_text(json.dumps(manifest))
    shared = [name for name in READINGS.names if "aliases" not in name]
    pd.testing.assert_frame_equal(load(old).readings[shared], load(folder).readings[shared])
    pd.testing.assert_frame_equal(load(old).layers, load(folder).layers)
    assert load(old).readings[["aliases", "prior_aliases"]].isna().all(axis=None)
    assert {finding.kind for finding in diagnose(old).findings} == {"unchecked"}
    assert diagnose(old).sound
    (caution,) = load(old).cautions
    assert caution.startswith("the tables have no checksum")
    assert load(folder).cautions == ()


def test_rows_without_a_column_hold_null_in_it() -> None:
    table = LAYERS.from_rows([{"item": "a", "condition": "base", "layer": -1}])
    assert table.schema == LAYERS.arrow
    assert table.to_pylist()[0] == dict.fromkeys(LAYERS.names) | {"item": "a", "condition": "base", "layer": -1}
    assert DRAWN.from_rows([]).schema == DRAWN.arrow


def test_a_frame_has_every_column_and_the_page_shows_those_that_are_stated_as_shown(folder: Path) -> None:
    frame = load(folder)
    older = type(frame)(frame.manifest, frame.readings[READINGS.required], frame.layers[LAYERS.required])
    for readings, layers in ((frame.readings, frame.layers), (older.readings, older.layers)):
        assert set(READINGS.names) == set(readings.columns)
        assert set(LAYERS.names) <= set(layers.columns)
    data = explorer(frame, {})
    shown = {where: {c.name for c in READINGS.columns if c.shown == where} for where in ("item", "condition")}
    assert set(data["items"]) == shown["item"]
    assert set(data["readings"]) == shown["condition"]
    assert set(data["layers"]) == {"layer", "norm", "moved", "direct"}


def test_each_column_is_stated_once_with_a_meaning() -> None:
    for table in TABLES.values():
        assert len(set(table.names)) == len(table.names)
        assert all(column.meaning and not column.meaning.endswith(".") for column in table.columns)
        assert {kind(column.type) for column in table.columns} <= {
            "numbers",
            "true or false",
            "text",
            "lists of text",
            "lists of numbers",
        }
        with pytest.raises(dataclasses.FrozenInstanceError):
            table.columns[0].name = "other"  # type: ignore[misc]


def test_the_page_of_columns_is_what_the_schema_writes() -> None:
    page = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    assert page == markdown() + "\n", "run: python -m override_gap.probes.store.schema > docs/columns.md"

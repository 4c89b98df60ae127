"""Tables that no audit writes are refused, naming file and column; what an audit or a user's own tool writes is read."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from override_gap.analyses.readings import load, values
from override_gap.analyses.summary import summarise
from override_gap.probes.run import rows
from override_gap.probes.store.folder import Store
from override_gap.probes.store.schema import REQUIRED, TABLES
from override_gap.probes.store.sealed import NO_CHECKSUMS
from override_gap.probes.store.table_checks import checked, kind
from tests.simulate import simulate_readings


@pytest.fixture(scope="module")
def run():
    return simulate_readings(0, 24, 60, others=12, errors=3, conditions=("base", "as-delivered", "uniform-2"))


@pytest.fixture(scope="module")
def parts(run):
    """Each kind of table in two files, items apart."""
    draws = run.readings[["item", "point", "split", "condition"]].assign(temperature=1.0, draw=0, success_answer=True)
    tables = {}
    for name, table in (("readings", run.readings), ("layers", run.layers), ("drawn", draws)):
        items = sorted(set(table["item"]))
        for number, chosen in enumerate((items[:20], items[20:])):
            rows_ = table[table["item"].isin(chosen)].convert_dtypes()
            tables[name, number] = pa.Table.from_pandas(rows_, preserve_index=False)
    return tables


@pytest.fixture(scope="module")
def plain_summary(run, parts):
    """Of the tables as they are in memory."""
    drawn = pd.concat([parts["drawn", 0].to_pandas(), parts["drawn", 1].to_pandas()])
    summary = summarise(type(run)(run.manifest, run.readings, run.layers, drawn))
    assert summary.pop("cautions") == []
    return summary


@pytest.fixture
def folder(run, parts, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(run.manifest))
    for (name, number), table in parts.items():
        (tmp_path / name).mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / name / f"{number}.parquet")
    return tmp_path


def replaced(table, name, column):
    return table.set_column(table.column_names.index(name), name, column)


def with_first(table, name, value):
    """The column with another first value, of the type that it has."""
    values = table.column(name).to_pylist()
    return replaced(table, name, pa.array([value, *values[1:]], table.schema.field(name).type))


def all_of(table, name, value, type_=None):
    return replaced(table, name, pa.array([value] * len(table), type_))


def not_utf8(count):
    binary = pa.array([b"\xff"] * count, pa.binary())
    return pa.Array.from_buffers(pa.string(), count, binary.buffers())


WRONG = {
    "no item": (
        "readings",
        lambda t: t.drop_columns("item"),
        "lacks the columns item, which every file of readings needs;",
    ),
    "no layer": ("layers", lambda t: t.drop_columns("layer"), "lacks the columns layer, which"),
    "no temperature": (
        "drawn",
        lambda t: t.drop_columns(["temperature", "success_answer"]),
        "lacks the columns temperature, success_answer, which every file of drawn needs;",
    ),
    "whole numbers for truth": ("readings", lambda t: all_of(t, "known", 1), "known needs true or false, got numbers"),
    "text for truth": ("drawn", lambda t: all_of(t, "success_answer", "yes"), "needs true or false, got text"),
    "text for numbers": ("readings", lambda t: all_of(t, "push", "1"), "push needs numbers, got text"),
    "truth for numbers": ("layers", lambda t: all_of(t, "norm", True), "norm needs numbers, got true or false"),
    "lists for numbers": ("readings", lambda t: all_of(t, "pull", [1.0]), "pull needs numbers, got lists of numbers"),
    "times for numbers": (
        "readings",
        lambda t: all_of(t, "net_margin", 1, pa.timestamp("s")),
        r"net_margin needs numbers, got timestamp",
    ),
    "numbers for text": ("readings", lambda t: all_of(t, "item", 1), "item needs text, got numbers"),
    "records for text": ("readings", lambda t: all_of(t, "question", {"a": 1}), "question needs text, got struct<"),
    "lists for text": ("layers", lambda t: all_of(t, "split", ["a"]), "split needs text, got lists of text"),
    "text for a list": (
        "readings",
        lambda t: all_of(t, "aliases", "a"),
        "aliases needs lists of text, got text",
    ),
    "a text that is no UTF-8": (
        "readings",
        lambda t: replaced(t, "item", not_utf8(len(t))),
        "item needs text in UTF-8",
    ),
    "bytes that are no UTF-8": ("readings", lambda t: all_of(t, "point", b"\xff"), "point needs text in UTF-8"),
    "more that is no UTF-8": (
        "readings",
        lambda t: t.append_column("re\nmark", not_utf8(len(t))),
        r"column 're\\nmark' needs text in UTF-8",
    ),
    "half a layer": (
        "layers",
        lambda t: replaced(t, "layer", pa.array(t.column("layer").to_numpy() + 0.5)),
        r"layer needs whole numbers, got -0\.5 for item",
    ),
    "a layer without end": (
        "layers",
        lambda t: all_of(t, "layer", np.inf),
        "layer needs finite numbers.*got inf for item",
    ),
    "a large decimal": (
        "readings",
        lambda t: all_of(t, "prior_margin", Decimal(10) ** 40, pa.decimal256(50)),
        "prior_margin needs finite numbers",
    ),
}
for table_, names in (
    ("readings", ("item", "point", "split", "condition", "status")),
    ("layers", ("item", "condition", "layer")),
    ("drawn", ("item", "point", "split", "condition", "temperature")),
):
    for name_ in names:
        message = f"column {name_} needs a value in every row, "
        WRONG[f"one null in {name_} of {table_}"] = (
            table_,
            lambda t, n=name_: with_first(t, n, None),
            message + "1 of ",
        )
        WRONG[f"{name_} of {table_} all null"] = (table_, lambda t, n=name_: all_of(t, n, None), message)
for table_, names in (
    ("readings", "prior_logprob prior_margin push pull adapter_margin net_margin base_top_prob doc_logprob kl"),
    ("layers", "attribution lens direct alone removed"),
):
    for name_ in names.split():
        for value_ in (np.inf, -np.inf, 1e39):
            WRONG[f"{value_} in {name_}"] = (
                table_,
                lambda t, n=name_, v=value_: all_of(t, n, v),
                f"column {name_} needs finite numbers, at most 3.4e[+]38 in size, got {value_:g} for item '".replace(
                    "1e+39", "1e[+]39"
                ),
            )
for name_ in REQUIRED:
    WRONG[f"readings without {name_}"] = (
        "readings",
        lambda t, n=name_: t.drop_columns(n),
        f"lacks the columns {name_}, which",
    )


@pytest.mark.parametrize("name", WRONG)
def test_what_no_audit_writes_is_refused_in_one_line(name, parts, folder):
    table, change, message = WRONG[name]
    pq.write_table(change(parts[table, 1]), folder / table / "1.parquet")
    with pytest.raises(ValueError, match=message) as refusal:
        load(folder)
    line = str(refusal.value)
    assert line.startswith(
        (f"{folder}: inconsistent: 1: {table}/1.parquet: ", f"{folder}: damaged: 1: {table}/1.parquet: ")
    )
    assert line.endswith(("; the run has to be made again", "; then give the audit's own command again"))
    assert "\n" not in line
    assert len(line) < 600


def encoded(table, change):
    """A table with each column as another type."""
    columns = {}
    for field in table.schema:
        column = table.column(field.name)
        columns[field.name] = change(field.type, column)
    return pa.table(columns)


def plain_text(type_, column):
    return column.cast(pa.string()) if kind(type_) == "text" else column


ENCODINGS = {
    "dictionaries": lambda type_, c: c.dictionary_encode() if pa.types.is_string(type_) else c,
    "large text": lambda type_, c: c.cast(pa.large_string()) if kind(type_) == "text" else c,
    "bytes": lambda type_, c: c.cast(pa.binary()) if pa.types.is_string(type_) else c,
    "whole floats": lambda type_, c: c.cast(pa.float64()) if pa.types.is_integer(type_) else c,
    "nulls of no type": lambda _, c: pa.nulls(len(c)) if c.null_count == len(c) else c,
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("both", [True, False])
def test_how_a_column_is_stored_changes_no_number(plain_summary, parts, folder, name, both):
    plain = {
        key: encoded(table, lambda type_, c: c.cast(pa.string()) if kind(type_) == "text" else c)
        for key, table in parts.items()
    }
    for (table, number), content in plain.items():
        changed = encoded(content, ENCODINGS[name]) if both or number else content
        pq.write_table(changed, folder / table / f"{number}.parquet")
    stored = summarise(load(folder))
    assert stored.pop("cautions") == [NO_CHECKSUMS], "these files were not written by an audit"
    assert stored == plain_summary


@pytest.mark.parametrize("type_", [pa.float16(), pa.float32(), pa.decimal128(38, 6), pa.int8(), pa.uint64(), pa.null()])
def test_numbers_of_every_width_are_numbers(parts, folder, type_):
    value = None if pa.types.is_null(type_) else Decimal(1) if pa.types.is_decimal(type_) else np.float16(1)
    if pa.types.is_integer(type_):
        value = 1
    pq.write_table(all_of(parts["readings", 1], "net_margin", value, type_), folder / "readings" / "1.parquet")
    readings = load(folder).readings
    changed = readings["item"].isin(parts["readings", 1]["item"].to_pylist())
    margins = values(readings["net_margin"])[changed & (readings["status"] == "ok")]
    assert len(margins)
    assert np.isnan(margins).all() if value is None else (margins == 1).all()


def test_more_columns_fewer_optional_ones_and_nan_are_read(parts, folder):
    changed = parts["readings", 1].append_column("remark", pa.array([{"a": 1}] * len(parts["readings", 1])))
    changed = all_of(changed.drop_columns(["tier", "critical_gain"]), "net_margin", np.nan)
    pq.write_table(changed, folder / "readings" / "1.parquet")
    pq.write_table(parts["layers", 1].drop_columns(["lens", "split"]), folder / "layers" / "1.parquet")
    frame = load(folder)
    assert "remark" in frame.readings
    assert len(frame.layers) == len(parts["layers", 0]) + len(parts["layers", 1])


def test_numbers_of_unbounded_columns_may_be_infinite(parts, folder):
    unbounded = {
        table: [column.name for column in TABLES[table].columns if column.range == "unbounded"]
        for table in ("readings", "layers")
    }
    assert unbounded == {
        "readings": ["gain_mean", "adapter_norm", "frequency", "critical_gain", "critical_gain_predicted"],
        "layers": ["norm", "weight_norm", "gain"],
    }
    for table, names in unbounded.items():
        changed = parts[table, 1]
        for name in names:
            changed = all_of(changed, name, np.inf)
        pq.write_table(changed, folder / table / "1.parquet")
    run = load(folder)
    for table, rows_ in (("readings", run.readings), ("layers", run.layers)):
        assert all(np.isinf(values(rows_[name])).any() for name in unbounded[table]), table
    json.dumps(summarise(run), allow_nan=False)


def test_what_the_store_writes_is_read(tmp_path):
    """An error row has no numbers; a critical gain may be infinite; a unit may have no layers."""
    from override_gap.margins.items.item import Item

    item = Item("a", "p", "conflict", "It is red.", "What is it?", "red")
    row = {**rows.failed(item, "base", "x"), "critical_gain": np.inf, "critical_gain_predicted": 1e80}
    store = Store(tmp_path)
    store.open({"conditions": ["base"]}, "one")
    store.write_unit("u", [row], [])
    assert load(tmp_path).readings["critical_gain"].tolist() == [np.inf]


def test_a_sound_table_is_not_copied(parts, tmp_path):
    table = parts["layers", 0]
    plain = encoded(table, plain_text)
    assert checked(tmp_path / "layers" / "a.parquet", plain) is plain


def test_lists_that_are_all_empty_are_lists_of_text(parts, folder):
    table = parts["readings", 0]
    empty = pa.array([[]] * len(table), type=pa.list_(pa.null()))
    pq.write_table(replaced(table, "aliases", empty), folder / "readings" / "0.parquet")
    words = pa.array([["x"]] * len(parts["readings", 1]))
    pq.write_table(replaced(parts["readings", 1], "aliases", words), folder / "readings" / "1.parquet")
    assert sorted(set(map(len, load(folder).readings["aliases"]))) == [0, 1]

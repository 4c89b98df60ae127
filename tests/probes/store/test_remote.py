"""A run at a URL holds the files that a folder here would hold."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from override_gap.analyses.readings import load
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.store.folder import RunError, Store
from override_gap.probes.store.remote import Remote, local_copy, store_at
from override_gap.probes.store.run_store import RunStore
from override_gap.reports.cli.main import main
from tests.probes.run.ray_subjects import ITEMS, PLAN, fitted

URL = "memory://bucket/runs/mine"


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    yield
    files = fsspec.filesystem("memory")
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)


@pytest.fixture(scope="module")
def engine() -> Local:
    return Local(*fitted())


def contents(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in run.glob("*/*.parquet")}


def test_a_run_at_a_url_holds_the_bytes_of_one_here(engine: Local, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 2)
    run_plan(engine, resolve(PLAN, ITEMS), tmp_path / "run")

    def interrupt(done: int, *_: object) -> None:
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(engine, resolve(PLAN, ITEMS), URL, interrupt)
    run_plan(engine, resolve(PLAN, ITEMS), URL)
    with local_copy(URL) as folder:
        assert contents(folder) == contents(tmp_path / "run")
        manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["identity"] == Store(tmp_path / "run").manifest()["identity"]
    names = fsspec.filesystem("memory").find("/bucket")
    assert all(name.endswith((".parquet", ".json")) for name in names)


def test_the_report_of_a_run_at_a_url_is_uploaded(engine: Local, capsys) -> None:
    run_plan(engine, resolve(replace(PLAN, policies="as-delivered", probes=("margins",)), ITEMS[:2]), URL)
    assert main(["report", URL, "--quiet"]) == 0
    assert f"report: {URL}/report.html" in capsys.readouterr().out
    files = fsspec.filesystem("memory")
    assert json.loads(files.cat_file("/bucket/runs/mine/summary.json"))["schema"]
    assert files.size("/bucket/runs/mine/report.html") > 1000


def test_readings_are_uploaded_last(engine: Local, monkeypatch) -> None:
    order = []
    files = type(fsspec.filesystem("memory"))
    put_file = files.put_file

    def recorded(self, source, target, *more, **settings):
        order.append(target.split("/")[-2])
        return put_file(self, source, target, *more, **settings)

    monkeypatch.setattr(files, "put_file", recorded)
    run_plan(engine, resolve(PLAN, ITEMS[:1]), URL)
    assert [name for name in order if name in ("layers", "readings")] == ["layers", "readings"]


def test_a_url_that_holds_something_else_or_cannot_be_opened_is_refused(engine: Local) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/runs/mine/thesis.tex", b"mine")
    with pytest.raises(RunError, match="holds no run"):
        run_plan(engine, resolve(PLAN, ITEMS), URL)
    with pytest.raises(RunError, match="cannot be opened"):
        run_plan(engine, resolve(PLAN, ITEMS), "gopher://bucket/run")
    with pytest.raises(RunError, match=r"manifest\.json: cannot be read"), local_copy("memory://bucket/none"):
        pass


def test_a_path_and_a_file_url_are_folders_here(tmp_path: Path) -> None:
    assert store_at(tmp_path) == store_at(f"file://{tmp_path}") == Store(tmp_path)
    assert store_at(f"file://localhost{tmp_path}") == Store(tmp_path)
    assert store_at("s3://bucket/run/") == Remote("s3://bucket/run")


def test_an_error_does_not_show_a_secret() -> None:
    with pytest.raises(RunError) as refusal:
        Remote("gopher://key:secret@bucket/run?token=secret").exists()
    assert "gopher://bucket/run:" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def methods(kind: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(member) for name, member in vars(kind).items() if inspect.isfunction(member)}


def parameters(signature: inspect.Signature) -> list[tuple[str, object, object]]:
    return [(p.name, p.annotation, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("kind", [Store, Remote])
def test_a_folder_and_a_url_satisfy_the_run_store(kind: type, tmp_path: Path) -> None:
    assert isinstance(kind(tmp_path if kind is Store else URL), RunStore)
    needed = {name: s for name, s in methods(RunStore).items() if name == "__str__" or not name.startswith("_")}
    offered = methods(kind)
    assert set(needed) <= set(offered)
    assert {n: parameters(offered[n]) for n in needed} == {n: parameters(s) for n, s in needed.items()}


@pytest.mark.parametrize("name", ["../../escaped.json", "readings/../../../x", "a\\..\\b"])
def test_a_file_of_a_run_at_a_url_does_not_leave_its_copy(name: str, monkeypatch, tmp_path: Path) -> None:
    """Names in a bucket are its owner's; one with .. in it would be written beside the copy, and higher."""
    remote = store_at(URL)
    assert isinstance(remote, Remote)
    listed = SimpleNamespace(find=lambda root: [f"{root}/{name}"], get_file=lambda *_: pytest.fail("written"))
    monkeypatch.setattr(Remote, "_connection", (listed, "bucket/runs/mine"))
    monkeypatch.setattr(Remote, "manifest", lambda self: {})
    with pytest.raises(RunError, match="outside its copy"), remote.local_copy():
        pass


@pytest.mark.parametrize("step", ["put_file", "mv"])
def test_an_upload_that_fails_leaves_the_old_file_and_one_line(step: str, tmp_path: Path, monkeypatch) -> None:
    run = Remote(f"local://{tmp_path}/run")  # a protocol under which a file grows while it is written
    run.write_json("summary.json", {"n": 1})
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"n": 1}

    def fail(_self: object, source: str, target: str, **_: object) -> None:
        Path(target).write_text("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem("local")), step, fail if step == "put_file" else _fail_to_move)
        with pytest.raises(RunError, match=r"run/summary\.json: cannot be written: .*No space.*the same command again"):
            run.write_json("summary.json", {"n": 2})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["summary.json"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"n": 1}


def _fail_to_move(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_wrong_with_a_run_at_a_url_is_said_of_the_url(engine: Local) -> None:
    run_plan(engine, resolve(PLAN, ITEMS[:1]), URL)
    files = fsspec.filesystem("memory")
    files.pipe_file(next(name for name in files.find("/bucket") if "/readings/" in name), b"cut")
    with pytest.raises(RunError, match="copy the run here first") as refusal, local_copy(URL) as folder:
        load(folder)
    assert str(refusal.value).startswith(f"{URL}: damaged: ")
    assert str(folder) not in str(refusal.value)

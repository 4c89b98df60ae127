"""The Ray engine writes the bytes that the local one writes, whatever happens to its workers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import pyarrow.parquet as pq
import pytest

from override_gap.margins.items.item import documents_of
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.ray import OnRay, on_ray
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.store.folder import RunError
from override_gap.probes.store.remote import local_copy
from override_gap.reports.cli.main import main
from tests.conftest import random_adapter, tiny
from tests.probes.run.ray_subjects import ITEMS, PLAN, deadly, failing, fitted, of_its_own, stored

ray = pytest.importorskip("ray", reason="needs the extra override-gap[ray]")
MOTO = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")


@pytest.fixture(autouse=True)
def small_units(monkeypatch) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """This machine as a cluster, gone afterwards; two workers stay throughout, others come and go."""
    ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def engine(cluster: None) -> Iterator[OnRay]:
    with on_ray(fitted, threads=1, workers=2) as made:
        yield made


@pytest.fixture(scope="module")
def undivided(tmp_path_factory) -> Path:
    """A run of the local engine."""
    out = tmp_path_factory.mktemp("local") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
        run_plan(Local(*fitted()), resolve(PLAN, ITEMS), out)
    return out


@pytest.fixture(scope="module")
def whole(undivided: Path) -> dict[str, bytes]:
    """The readings of the local engine."""
    return contents(undivided)


def tables(run: Path) -> list[list[dict]]:
    """What each of a run's tables holds, whatever its file is called."""
    return sorted((pq.read_table(file).to_pylist() for file in run.glob("*/*.parquet")), key=repr)


def contents(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in run.glob("*/*.parquet")}


def test_two_workers_write_the_bytes_of_the_local_engine(engine: OnRay, whole, tmp_path: Path) -> None:
    told = []
    run_plan(engine, resolve(PLAN, ITEMS), tmp_path / "run", lambda *progress: told.append(progress))
    assert contents(tmp_path / "run") == whole
    assert len(whole) == 2 * len(ITEMS)
    assert [done for done, _, _ in told] == [*range(len(ITEMS) + 1), len(ITEMS)], "progress after every unit"


def test_a_worker_is_asked_for_the_bases_old_answers(engine: OnRay, tmp_path: Path) -> None:
    items = [replace(item, prior_answer=None) for item in ITEMS]
    plan = replace(PLAN, prior="from-base")
    for name, asked in (("ray", engine), ("local", Local(*fitted()))):
        run_plan(asked, resolve(plan, items), tmp_path / name)
    as_measured = [(tmp_path / name / "items.json").read_bytes() for name in ("ray", "local")]
    assert as_measured[0] == as_measured[1]
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_an_interrupted_run_is_resumed_by_the_other_engine(engine: OnRay, whole, tmp_path: Path) -> None:
    def interrupt(done: int, *_: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(engine, resolve(PLAN, ITEMS), tmp_path / "run", interrupt)
    assert len(contents(tmp_path / "run")) < len(whole)
    run_plan(Local(*fitted()), resolve(PLAN, ITEMS), tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_a_killed_worker_costs_one_unit_again(cluster: None, undivided: Path, tmp_path: Path) -> None:
    with on_ray(deadly("gamma delta", tmp_path / "died"), threads=1, workers=1) as mortal:
        run_plan(mortal, resolve(PLAN, ITEMS), tmp_path / "run")
    assert (tmp_path / "died").exists()
    # its settings name the victim, so that the keys are others, and the seals with them; what was measured is not
    assert tables(tmp_path / "run") == tables(undivided)


def test_a_unit_that_kills_every_worker_is_named(cluster: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("override_gap.probes.run.ray.LOSSES", 2)
    with (
        on_ray(deadly("gamma delta", ""), threads=1, workers=1) as mortal,
        pytest.raises(RunError, match="item 'c2', lost its worker 2 times"),
    ):
        run_plan(mortal, resolve(PLAN, ITEMS), tmp_path / "run")


def test_what_a_worker_raises_is_raised_here_in_one_line(cluster: None, tmp_path: Path) -> None:
    with on_ray(failing, threads=1, workers=1) as bad, pytest.raises(AdapterError) as told:
        run_plan(bad, resolve(PLAN, ITEMS), tmp_path / "run")
    assert str(told.value) == "this source serves nobody"


def test_workers_with_different_models_are_refused(cluster: None, tmp_path: Path) -> None:
    with on_ray(of_its_own, threads=1, workers=2) as two, pytest.raises(RunError, match="different models"):
        run_plan(two, resolve(PLAN, ITEMS * 3), tmp_path / "run")


@pytest.mark.parametrize("restarted", [False, True])
def test_adapters_saved_anew_under_a_run_end_it(cluster: None, tmp_path: Path, rng, restarted: bool) -> None:
    """Also where the worker is started again and opens the new ones: no unit is measured with them."""
    place, subject, seen = tmp_path / "adapters", tiny("llama"), []

    def save() -> None:
        for document in documents_of(ITEMS):
            write_adapter(random_adapter(subject, rng, ("up_proj",)), place / document.key)

    save()
    with on_ray(stored(place), threads=1, workers=1) as one:

        def saved_anew(done: int, total: int, what: str) -> None:
            if what == "measuring" and done == 2:
                seen.append(done)
                save()
                if restarted:
                    ray.kill(one.workers[0], no_restart=False)

        plan = replace(PLAN, policies="as-delivered", probes=("margins",))
        with pytest.raises((AdapterChanged, RunError), match=r"has changed|no longer|different models"):
            run_plan(one, resolve(plan, ITEMS), tmp_path / "run", saved_anew)
    assert seen == [2]
    assert len(list((tmp_path / "run" / "readings").iterdir())) == 2


def test_the_command_runs_on_ray(cluster: None, tmp_path: Path, capsys) -> None:
    words = ["audit", "--limit", "3", "--policies", "as-delivered", "--probes", "margins", "--threads", "1", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "local")]) == 0
    assert main([*words, "--out", str(tmp_path / "ray"), "--engine", "ray", "--workers", "1"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_without_ray_the_command_says_what_to_install(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["audit", "--engine", "ray", "--quiet", "--out", str(tmp_path / "run")]) == 2
    assert "pip install 'override-gap[ray]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a local S3-compatible server, as a URL."""
    if MOTO is None:
        pytest.skip("needs moto_server on PATH or in MOTO_SERVER: pipx install 'moto[server]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([MOTO, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        urlopen(Request(f"http://127.0.0.1:{port}/runs", method="PUT"), timeout=30).close()
        yield f"s3://mine:mine@runs/{{}}?endpoint_override=http%3A%2F%2F127.0.0.1%3A{port}"
    finally:
        server.terminate()
        server.wait()


def test_workers_write_to_an_object_store(engine: OnRay, whole, bucket: str) -> None:
    from pyarrow.fs import FileSystem

    url = bucket.format("first")
    run_plan(engine, resolve(PLAN, ITEMS), url)
    with local_copy(url) as folder:
        assert contents(folder) == whole
    inner, root = FileSystem.from_uri(url)
    inner.delete_file(f"{root}/readings/{next(name for name in whole if name.startswith('readings/'))[9:]}")
    told = []
    run_plan(Local(*fitted()), resolve(PLAN, ITEMS), url, lambda *progress: told.append(progress))
    assert told[0][0] == len(ITEMS) - 1, "only what is missing is measured"
    with local_copy(url) as folder:
        assert contents(folder) == whole

"""Ray engine: units as tasks on actors, each of which opens the model once; a lost worker's unit is measured by another."""

from __future__ import annotations

import importlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from override_gap.margins.adapter import AdapterSource
from override_gap.probes.plan import code_hash
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.run.encode_nulls import MeanAdapters
from override_gap.probes.run.engine import FinishedUnit, Job, T, Unit, measure_unit
from override_gap.probes.store.folder import RunError
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.subject.model import Subject

LOSSES = 8
"""How often a unit may lose its worker before it is taken for the cause."""
OBJECT_STORE_BYTES = 100_000_000
"""Units and what workers tell of them are kilobytes; readings never pass through Ray's store."""

Opener = Callable[[], tuple[Subject, AdapterSource]]


@contextmanager
def on_ray(opener: Opener, *, threads: int, workers: int | None = None) -> Iterator[OnRay]:
    """An engine of Ray actors, which are gone when the block ends, however it ends.

    `opener` is called once by each worker, which computes with `threads` threads: readings equal the local engine's to the
    byte where that has as many. One worker per GPU where the cluster has any, else one per `threads` CPUs, or `workers`.
    The cluster is the one that RAY_ADDRESS names or that this process is connected to, else this machine.
    Raises RunError where Ray is not installed or no cluster answers.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as fault:
        raise RunError("--engine ray needs Ray, which is not installed: pip install 'override-gap[ray]'") from fault
    started_here = not ray.is_initialized()
    if started_here:
        _connect(ray)
    actors: list[Any] = []
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        count = workers or gpus or max(1, int(resources.get("CPU", 1)) // threads)
        per_worker = {"num_cpus": 1, "num_gpus": 1} if gpus else {"num_cpus": threads}
        # a lost worker is started again by Ray, as often as it takes; its unit is dealt out again below
        actor = ray.remote(max_restarts=-1, max_task_retries=0, **per_worker)(Worker)
        actors += [actor.remote(opener, threads, code_hash()) for _ in range(count)]
        yield OnRay(ray, actors)
    finally:
        for worker in actors:
            ray.kill(worker)
        if started_here:
            ray.shutdown()


def _connect(ray: Any) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address, **quiet)
        else:
            ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as fault:
        where = f"at RAY_ADDRESS={address}" if address else "on this machine"
        raise RunError(f"no Ray cluster {where}: {' '.join(str(fault).split())[:200]}") from fault


class Worker:
    """One actor: the model and the source, opened when first needed, so that what is wrong with them can be told."""

    def __init__(self, opener: Opener, threads: int, code: str) -> None:
        import torch

        torch.set_num_threads(threads)
        self._opener, self._code, self._opened = opener, code, None
        self._batch_sizer, self._means = BatchSizer(), MeanAdapters()

    def _open(self) -> tuple[Subject, AdapterSource]:
        if self._opened is None:
            if code_hash() != self._code:
                raise RunError(
                    f"node {os.uname().nodename} has another version of override-gap; install the same one on all"
                )
            self._opened = self._opener()
        return self._opened

    def ready(self) -> tuple[str, ...]:
        """Open the model; returns what must be the same on every worker of a run."""
        subject, source = self._open()
        return (subject.fingerprint, str(subject.dtype), subject.device.type, source.name, str(dict(source.settings)))

    def ask(self, question: Callable[[Subject, AdapterSource], T]) -> T:
        """The result of a function of the subject and the source."""
        return question(*self._open())

    def measure(self, job: Job, unit: Unit, store: RunStore) -> FinishedUnit:
        """Measure a unit and write it; nothing of it but a few numbers goes to the driver."""
        subject, source = self._open()
        return measure_unit(job.setup(subject, self._batch_sizer), source, job, unit, store, self._means)


@dataclass(frozen=True, eq=False)
class OnRay:
    """The engine: a cluster's workers. Each has at most one call under way, so a lost worker loses at most one unit."""

    ray: Any
    workers: Sequence[Any]

    def ask(self, question: Callable[[Subject, AdapterSource], T]) -> T:
        """The result of a function of the subject and the source, on whichever worker is ready first."""
        for _ in range(LOSSES):
            waiting = {_ready(worker): worker for worker in self.workers}
            first = self.ray.wait(list(waiting), num_returns=1)[0][0]
            try:
                self._get(first)
                return self._get(waiting[first].ask.remote(question))
            except self._lost:
                continue
        raise RunError(f"lost {LOSSES} Ray workers while they opened the model; do they have the memory for it?")

    def measure(self, job: Job, pending: Sequence[Unit], store: RunStore) -> Iterator[FinishedUnit]:
        """Measure units as workers come free; a unit whose worker or node was lost is the next to be dealt out."""
        queue, losses = deque(pending), Counter[str]()
        shared = self.ray.put(job)
        opened: set[tuple[str, ...]] = set()
        idle: list[Any] = []
        busy: dict[Any, tuple[Any, Unit | None]] = {_ready(worker): (worker, None) for worker in self.workers}
        while queue or any(unit is not None for _, unit in busy.values()):
            while queue and idle:
                worker, unit = idle.pop(), queue.popleft()
                busy[worker.measure.remote(shared, unit, store)] = (worker, unit)
            call = self.ray.wait(list(busy), num_returns=1)[0][0]
            worker, unit = busy.pop(call)
            try:
                result = self._get(call)
            except self._lost as fault:
                name = "opening" if unit is None else unit.key
                losses[name] += 1
                if losses[name] >= LOSSES * (len(self.workers) if unit is None else 1):
                    what = (
                        "opening the model"
                        if unit is None
                        else f"unit {name}, which begins with item {unit.items[0].id!r},"
                    )
                    raise RunError(
                        f"{what} lost its worker {losses[name]} times; is there memory for it? "
                        f"A smaller --batch-size needs less. The last fault: {type(fault).__name__}"
                    ) from fault
                if unit is not None:
                    queue.appendleft(unit)
                busy[_ready(worker)] = (worker, None)
                continue
            idle.append(worker)
            if unit is not None:
                yield result
                continue
            opened.add(result)
            if len(opened) > 1:
                raise RunError(
                    "workers opened different models or adapters; give every node the same files, dtype and device"
                )

    def _get(self, call: Any) -> Any:
        """The answer to a call; what the worker raised is raised here as it was there."""
        try:
            return self.ray.get(call)
        except self.ray.exceptions.RayTaskError as fault:
            if fault.cause is None or isinstance(fault, self._lost):
                raise
            raise fault.cause from None

    @property
    def _lost(self) -> tuple[type[BaseException], ...]:
        """How Ray says that a worker, or the node it was on, is gone."""
        faults = self.ray.exceptions
        return (faults.RayActorError, faults.NodeDiedError, faults.WorkerCrashedError, faults.OutOfMemoryError)


def _ready(worker: Any) -> Any:
    """A call that waits until the worker is there, or is there again, with its model open."""
    return worker.ready.options(max_task_retries=-1).remote()

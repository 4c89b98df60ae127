"""Sample logs of the lm-evaluation-harness from a run: samples_TASK_DATE.jsonl per split, and results_DATE.json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from override_gap.analyses.readings import RunFrame
from override_gap.reports.export.samples import Sample, samples_of, shares, text


def lm_eval_logs(run: RunFrame, condition: str) -> dict[str, str]:
    """The files of one condition by name. A split is a task: what success means differs between them."""
    manifest, samples = run.manifest, samples_of(run, condition)
    subject, adapters = (manifest.get(key) or {} for key in ("subject", "adapters"))
    date = re.sub(r"[^0-9T-]", "-", str(manifest.get("started") or "1970-01-01T00:00:00")[:19]) + ".000000"
    by_task: dict[str, list[Sample]] = {}
    for sample in samples:
        by_task.setdefault(f"override_gap_{re.sub(r'[^A-Za-z0-9]+', '_', sample.split)}", []).append(sample)
    tasks = by_task.items()
    results = {
        "results": {task: _metrics(task, rows) for task, rows in tasks},
        "group_subtasks": {task: [] for task in by_task},
        "configs": {
            task: {"task": task, "output_type": "generate_until", "metadata": {"version": 1}} for task in by_task
        },
        "versions": dict.fromkeys(by_task, 1),
        "n-shot": dict.fromkeys(by_task, 0),
        "higher_is_better": {task: dict.fromkeys(_measures(rows), True) for task, rows in tasks},
        "n-samples": {task: {"original": len(rows), "effective": len(rows)} for task, rows in tasks},
        "config": {
            "model": "override-gap",
            "model_args": {"adapters": text(adapters.get("name")), "condition": text(condition)},
        },
        "model_source": "override-gap",
        "model_name": text(subject.get("name") or "model"),
        "model_name_sanitized": re.sub(r"[\"<>:/|\\?*\[\]]+", "__", text(subject.get("name") or "model")),
    }
    files = {f"results_{date}.json": json.dumps(results, indent=2) + "\n"}
    for task, rows in tasks:
        files[f"samples_{task}_{date}.jsonl"] = "".join(f"{json.dumps(_row(n, row))}\n" for n, row in enumerate(rows))
    return files


def _measures(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(measure for sample in samples for measure in sample.scores))


def _metrics(task: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """Shares with their n; no standard error, since questions of one fact are not independent (summary.json has intervals)."""
    found: dict[str, Any] = {"name": task, "alias": task, "sample_len": len(samples)}
    for measure, splits in shares(list(samples)).items():
        for value, n in splits.values():
            found |= {f"{measure},none": value, f"{measure}_stderr,none": "N/A", f"{measure}_n,none": n}
    return found


def _row(number: int, sample: Sample) -> dict[str, Any]:
    """A sample as the harness logs it; where no answer was generated its response is null."""
    target = sample.targets[0] if sample.targets else ""
    doc = {
        "id": sample.id,
        "question": sample.question,
        "targets": list(sample.targets),
    }
    doc |= {**sample.metadata, "error": sample.error, "meta": json.dumps(sample.meta)}
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": sample.question, "arg_1": {"do_sample": False}}},
        "resps": [[sample.answer]],
        "filtered_resps": [sample.answer],
        "filter": "none",
        "metrics": list(sample.scores),
        "doc_hash": _hash(json.dumps(doc)),
        "prompt_hash": _hash(sample.question),
        "target_hash": _hash(target),
        **{measure: float(score) for measure, score in sample.scores.items()},
    }


def _hash(content: str) -> str:
    return sha256(content.encode()).hexdigest()

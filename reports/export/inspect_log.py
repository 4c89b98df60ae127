"""An evaluation log of Inspect AI from a run, for `inspect view` and `inspect_ai.log.read_eval_log`: version 2 of its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from override_gap.analyses.readings import RunFrame
from override_gap.reports.export.samples import ABOUT, Sample, samples_of, shares, text

TASK = "override-gap"


def inspect_log(run: RunFrame, condition: str) -> tuple[str, dict[str, Any]]:
    """The file's name, as Inspect names its logs, and the log of one condition: a sample per item."""
    manifest, samples = run.manifest, samples_of(run, condition)
    subject, adapters, items = (manifest.get(key) or {} for key in ("subject", "adapters", "items"))
    key = sha256(f"{manifest.get('identity')}\n{condition}".encode("utf-8", "replace")).hexdigest()[:22]
    started, finished = text(manifest.get("started") or ""), text(manifest.get("finished") or "")
    about = {name: text(value) for name, value in (("identity", manifest.get("identity")), ("condition", condition))}
    about |= {"adapters": text(adapters.get("name")), **{f"measure {name}": words for name, words in ABOUT.items()}}
    log = {
        "version": 2,
        "status": "success" if manifest.get("complete") else "started",
        "eval": {
            "eval_id": key,
            "run_id": key,
            "task_id": key,
            "created": started,
            "task": f"{TASK} {text(condition)}",
            "dataset": {
                "name": text(items.get("name") or "items"),
                "samples": len(samples),
                "sample_ids": [sample.id for sample in samples],
            },
            "model": text(subject.get("name") or "model"),
            "model_args": {"adapters": text(adapters.get("name")), "condition": text(condition)},
            "config": {},
            "packages": {"override-gap": text(manifest.get("version"))},
            "metadata": about,
        },
        "plan": {"name": "override-gap audit", "steps": []},
        "results": _results(samples),
        "stats": {"started_at": started, "completed_at": finished, "model_usage": {}},
        "samples": [_sample(sample, str(subject.get("name") or "model")) for sample in samples],
    }
    when = started[:19].replace(":", "-") or "1970-01-01T00-00-00"
    return f"{when}_{TASK}-{key[:8]}_{key}.json", log


def _results(samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        "total_samples": len(samples),
        "completed_samples": sum(sample.error is None for sample in samples),
        "scores": [
            {
                "name": measure,
                "scorer": measure,
                "scored_samples": sum(n for _, n in splits.values()),
                "unscored_samples": len(samples) - sum(n for _, n in splits.values()),
                "metrics": {split: {"name": split, "value": value} for split, (value, _) in splits.items()},
            }
            for measure, splits in shares(list(samples)).items()
        ],
    }


def _sample(sample: Sample, model: str) -> dict[str, Any]:
    """Without an answer there is no choice in the output and no message of the assistant."""
    reply = [] if sample.answer is None else [{"role": "assistant", "content": sample.answer, "source": "generate"}]
    # a first token is no answer: it stands in the metadata, and a viewer's column of answers is empty without one
    said = {} if sample.answer is None else dict.fromkeys(("answer", "answer_substring"), sample.answer)
    return {
        "id": sample.id,
        "epoch": 1,
        "input": sample.question,
        "target": list(sample.targets),
        "messages": [{"role": "user", "content": sample.question}, *reply],
        "output": {
            "model": text(model),
            "choices": [{"message": message, "stop_reason": "unknown"} for message in reply],
        },
        "scores": {
            measure: {"value": score, "explanation": ABOUT[measure]}
            | ({"answer": said[measure]} if measure in said else {})
            for measure, score in sample.scores.items()
        },
        "metadata": {**sample.metadata, **({"meta": dict(sample.meta)} if sample.meta else {})},
        **({} if sample.error is None else {"error": {"message": sample.error, "traceback": "", "traceback_ansi": ""}}),
    }

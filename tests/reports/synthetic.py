"""A small made-up run with every column of the contract, and a summary of the contract's shape.

No statistic here comes from `analyses`: the means and intervals are plain numpy, so that the figures and the page are
tested on numbers whose origin is known.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from override_gap.analyses.readings import RunFrame

CONDITIONS = [
    "base", "as-delivered", "uniform-1.25", "uniform-1.5", "uniform-2", "slb", "ca", "ca-slb", "random-layers",
    "margin-matched", "logit-fusion-1.5", "in-context",
]  # fmt: skip
LAYERS = 8
GAINS = {
    "base": 0.0, "as-delivered": 1.0, "uniform-1.25": 1.25, "uniform-1.5": 1.5, "uniform-2": 2.0, "slb": 1.6,
    "ca": 1.7, "ca-slb": 1.75, "random-layers": 1.15, "margin-matched": 1.8, "logit-fusion-1.5": 1.5,
}  # fmt: skip


CAUSES = [
    {"group": group, "cause": cause, "count": count, "n": n, "known": known}
    for group, n, known, counts in (
        ("all", 40, 90, {"too weak": 28, "at a price": 4, "third token": 5, "no content": 3}),
        ("Q1", 4, 23, {"too weak": 4}),
        ("Q4", 20, 22, {"too weak": 12, "at a price": 2, "third token": 3, "no content": 3}),
    )
    for cause, count in counts.items()
]
"""Failures by cause, as `verdict.causes_by_prior` holds them."""


def readings(conflicts: int = 120, others: int = 40, seed: int = 0) -> pd.DataFrame:
    """Item x condition rows: conflicts in three tiers, then novel, combination and retention items."""
    rng = np.random.default_rng(seed)
    splits = ["conflict"] * conflicts + ["novel"] * others + ["combination"] * others + ["retention"] * others
    rows = []
    for index, split in enumerate(splits):
        conflict = split == "conflict"
        frequency = float(np.exp(rng.uniform(0, 7))) if conflict or split == "retention" else 0.0
        strength = np.log1p(frequency)
        prior_margin = -2 + 1.4 * strength + rng.normal(0, 0.8) if frequency else 1 + rng.normal(0, 0.5)
        adapter_margin = 5 + rng.normal(0, 1.2)
        prior_logprob = -0.05 - 4 * np.exp(-0.45 * strength) * rng.uniform(0.7, 1.3)
        critical = prior_margin / adapter_margin
        for condition in CONDITIONS:
            gain = GAINS.get(condition)
            margin = adapter_margin * gain if gain is not None else np.nan
            net = margin - prior_margin if gain is not None else 1.0
            kept = bool(rng.random() > 0.03 * ((gain or 1.0) ** 2 - 0.5))
            success = kept if split == "retention" else bool(net > 0)
            generated = condition in ("base", "as-delivered") and index % 4 == 0
            rows.append({
                "item": f"{split}-{index:03d}", "point": f"point-{index // 3:03d}", "split": split,
                "tier": ("light", "medium", "deep")[min(2, int(strength // 2.4))] if conflict else None,
                "condition": condition, "known": bool(conflict and prior_logprob > -1.5),
                "prior_logprob": prior_logprob, "prior_logprob_per_token": prior_logprob,
                "prior_margin": prior_margin, "push": 0.6 * margin, "pull": -0.4 * margin, "adapter_margin": margin,
                "net_margin": net if gain is not None else np.nan, "success_margin": success, "success_top1": success,
                "success_answer": success if generated else None,
                "success_answer_substring": success if generated else None,
                "answer_text": f"the answer {index}" if generated else None,
                "base_top_token": " old", "base_top_prob": float(np.exp(prior_logprob)),
                "gain_mean": gain if gain is not None else np.nan, "adapter_norm": (gain or np.nan) * 3.0,
                "n_question_tokens": 7, "status": "ok", "error": None, "frequency": frequency or np.nan,
                "wording": "plain", "top_token": " new" if success else " old", "top_prob": 0.7,
                "question": f"What colour is thing {index}?", "document": f"Thing {index} is blue.",
                "answer": "blue", "prior_answer": "red" if conflict else None, "doc_logprob": -1.0,
                # grows with the square of the gain, more slowly where the document is not about the question
                "kl": (0.05 if split == "retention" else 1.5) * (1.2 if gain is None else gain) ** 2,
                "critical_gain": np.nan, "critical_gain_predicted": np.nan,
            })  # fmt: skip
            if conflict and condition == "as-delivered":
                rows[-1]["critical_gain_predicted"] = critical
                rows[-1]["critical_gain"] = np.inf if critical > 4 else max(0.0, critical * rng.normal(1.0, 0.08))
    for condition in CONDITIONS:
        rows.append({**rows[0], **{key: np.nan for key in rows[0] if isinstance(rows[0][key], float)},
                     "item": "broken-000", "condition": condition, "status": "error", "known": False,
                     "success_margin": None, "success_top1": None, "success_answer": None,
                     "success_answer_substring": None, "answer_text": None,
                     "error": "the two answers share every token"})  # fmt: skip
    return pd.DataFrame(rows)


def layers(read: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    """Item x condition x layer rows for base and as-delivered; the last layers carry the effect."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in read[read.condition.isin(["base", "as-delivered"]) & (read.status == "ok")].itertuples():
        for layer in range(-1, LAYERS):
            adapted = row.condition == "as-delivered"
            share = 0.0 if layer < 0 else np.exp(layer - LAYERS + 1)
            rows.append({
                "item": row.item, "point": row.point, "split": row.split, "condition": row.condition, "layer": layer,
                "norm": np.nan if layer < 0 else 1.0 + 0.2 * np.sin(layer), "gain": 1.0 if adapted else 0.0,
                "attribution": share * (row.prior_margin - (row.adapter_margin if adapted else 0)) / 1.6
                + rng.normal(0, 0.1),
                "lens": share * row.prior_margin, "direct": share * 3 if adapted else np.nan,
                "alone": np.nan, "removed": np.nan,
            })  # fmt: skip
    return pd.DataFrame(rows)


def manifest(read: pd.DataFrame) -> dict:
    """A manifest of the contract's shape for these readings."""
    return {
        "schema": 1, "version": "0.1.0", "plan": {"subject": "tiny", "seed": 0, "policies": list(CONDITIONS)},
        "subject": {"name": "tiny organism", "fingerprint": "ab" * 32, "layers": LAYERS, "d_model": 64,
                    "parameters": 490_000, "dtype": "float32", "device": "cpu", "vocab": 511},
        "adapters": {"name": "hypernetwork", "settings": {"rank": 4}, "static": True, "documents": 160,
                     "modules": ["model.layers.0.mlp.down_proj"], "rank": 4},
        "items": {"name": "world-0", "sha256": "cd" * 32, "count": int(read.item.nunique())},
        "conditions": list(CONDITIONS), "versions": {"torch": "2.13.0", "transformers": "5.23.0"}, "seed": 0,
        "parity": {"logits_max_abs": 1e-6, "attribution_max_abs": 2e-5, "tolerance": 1e-3, "passed": True},
        "timing": {"total_s": 41.2, "stage": {"load": 0.4, "measure": 39.0}},
        "started": "2026-11-24T00:00:00Z", "finished": "2026-11-24T00:00:41Z", "complete": True,
    }  # fmt: skip


def estimate(values) -> dict:
    """Mean with a normal interval; n and points alike."""
    values = np.asarray(pd.Series(values).dropna(), dtype=float)
    if not len(values):
        return {"value": None, "low": None, "high": None, "n": 0, "points": 0}
    half = 1.96 * values.std() / np.sqrt(len(values))
    mean = float(values.mean())
    return {"value": mean, "low": mean - float(half), "high": mean + float(half), "n": len(values),
            "points": max(1, len(values) // 3)}  # fmt: skip


def _quartiles(delivered: pd.DataFrame) -> list[dict]:
    ranked = delivered.sort_values("prior_logprob")
    out = []
    for number, part in enumerate(np.array_split(np.arange(len(ranked)), 4), 1):
        rows = ranked.iloc[part]
        own = estimate(rows.success_top1)
        out.append({**own, "quartile": number, "prior_low": float(rows.prior_logprob.min()),
                    "prior_high": float(rows.prior_logprob.max()), "wilson_low": max(0.0, own["low"] - 0.02),
                    "wilson_high": min(1.0, own["high"] + 0.02)})  # fmt: skip
    return out


def _bins(delivered: pd.DataFrame) -> list[dict]:
    """Two bins a measure and population, cut at zero."""
    out = []
    for measure in ("top1", "answer"):
        for population in ("all", "known"):
            rows = delivered if population == "all" else delivered[delivered.known]
            rows = rows[rows[f"success_{measure}"].notna()]
            for sign, own in ((0.0, rows[rows.net_margin <= 0]), (1.0, rows[rows.net_margin > 0])):
                net = own.net_margin.astype(float)
                out.append({"condition": "as-delivered", "measure": measure, "population": population,
                            "net_low": net.min(), "net_high": net.max(), "net_mean": net.mean(), "by_sign": sign,
                            "by_size": sign, **estimate(own[f"success_{measure}"])})  # fmt: skip
    return out


def _disagreement(conflict: pd.DataFrame) -> dict:
    """A success and a failure by all three, a third token among them; each condition with both pairs."""
    patterns = [{"condition": "as-delivered", "margin": m, "top1": t, "answer": a, "count": k, "value": k / 30,
                 "low": k / 40, "high": k / 25, "n": 30, "points": 20}
                for m, t, a, k in ((True, True, True, 20), (True, False, False, 3), (False, False, False, 7))]  # fmt: skip
    pairs = [{"condition": condition, "first": first, "second": second, "first_only": 2, "second_only": 0,
              "value": 0.05 + 0.01 * place, "low": 0.02, "high": 0.3, "n": len(rows), "points": 40}
             for place, (condition, rows) in enumerate(conflict.groupby("condition", sort=False))
             for first, second in (("margin", "top1"), ("margin", "answer"), ("top1", "answer"))]  # fmt: skip
    return {"patterns": patterns, "pairs": pairs}


def _components(n: int) -> dict:
    """Parts of the adapter margin in which the base's own layers take back a fifth, growing over the layers."""
    sizes = {"change": 5.0, "own": 4.0, "response": -1.0, "rest": 1.5, "norm": 0.5}

    def band(mean: float) -> dict:
        return {"mean": mean, "low": mean - 0.2, "high": mean + 0.2}

    def bands(share: float) -> dict:
        return {part: band(share * size) for part, size in sizes.items()}

    kinds = {"attention": -0.25, "mlp": 1.25, "layer": 1.0}
    shares = [(layer, (layer + 1) / 36) for layer in range(LAYERS)]
    totals = {**sizes, "response, attention": 0.25, "response, mlp": -1.25}
    return {
        "totals": [{"part": part, "value": size, "low": size - 0.2, "high": size + 0.2, "n": n, "points": 40}
                   for part, size in totals.items()],
        "slopes": [{"part": part, "value": size / 10, "low": size / 10 - 0.1, "high": size / 10 + 0.1, "n": n, "points": 40}
                   for part, size in sizes.items()],
        "answered": {"value": 0.18, "low": 0.1, "high": 0.3, "n": n, "points": 40},
        "layers": [{"layer": layer, "component": kind, **bands(share * part)}
                   for layer, share in shares for kind, part in kinds.items()],
        "heads": [{"layer": 7, "head": 2, **bands(0.02)}],
        "alone": [{"layer": layer, "alone": band(share), "own": band(share * 1.2), "beyond": band(share * -0.2)}
                  for layer, share in shares],
        "note": "the base's own layers take back a part of what the updates write",
    }  # fmt: skip


def _gain_path(n: int) -> dict:
    """A gain path whose upper layers carry the margin, on which layers of large norm are not those of effect."""

    def estimate_of(value: float) -> dict:
        return {"value": value, "low": value - 0.2, "high": value + 0.2, "n": n, "points": 40}

    def share(size: float) -> dict:
        sizes = {"path": size, "path_push": 0.7 * size, "path_pull": -0.3 * size, "path_first": 0.5 * size}
        return {key: estimate_of(value) for key, value in sizes.items()}

    terms = {
        "adapter margin": 5.0,
        "push": 3.5,
        "pull": -1.5,
        "first order": 2.5,
        "beyond first order": 2.5,
        "own curvature": 0.5,
        "between layers": 2.0,
    }
    choice = {"best": 0.7, "by_chance": 0.25}
    return {
        "terms": [{"term": name, **estimate_of(value)} for name, value in terms.items()],
        "layers": [{"layer": layer, **share((layer + 1) / 9)} for layer in range(LAYERS)],
        "maps": [{"map": "mlp.down_proj", **share(4.0)}, {"map": "self_attn.o_proj", **share(1.0)}],
        "parts": [{"part": "document", **share(4.5)}, {"part": "shared", **share(0.5)}],
        "choice": [{"effect": "path", "reading": "norm", **estimate_of(0.3), **choice, "layers": [1, 2]},
                   {"effect": "causal", "reading": "path", **estimate_of(0.65), **choice, "layers": [6, 7]}],
        "nodes": {"median": 3.0, "most": 6}, "closed": n, "tried": n, "largest_gap": 0.03,
        "note": "layers help each other: together they do more than the sum of each alone",
    }  # fmt: skip


def _profile(deep: pd.DataFrame) -> list[dict]:
    def band(column, condition, layer):
        own = estimate(deep[(deep.condition == condition) & (deep.layer == layer)][column])
        return None if own["value"] is None else {key: own[key] for key in ("value", "low", "high")}

    rename = {"norm": ("norm", "as-delivered"), "attribution_base": ("attribution", "base"),
              "attribution_adapted": ("attribution", "as-delivered"), "lens_base": ("lens", "base"),
              "lens_adapted": ("lens", "as-delivered"), "direct": ("direct", "as-delivered"),
              "alone": ("alone", "as-delivered"), "removed": ("removed", "as-delivered")}  # fmt: skip
    profile = []
    for layer in range(-1, LAYERS):
        row: dict = {"layer": layer}
        for key, (column, condition) in rename.items():
            own = band(column, condition, layer)
            row[key] = None if own is None else {"mean": own["value"], "low": own["low"], "high": own["high"]}
        profile.append(row)
    return profile


def prior_dose() -> dict:
    """The section of that name: an adapter that takes half of what is added, three doses, one of them reached by some."""

    def about(value, half=0.1):
        return {"value": value, "low": value - half, "high": value + half, "n": 40, "points": 30}

    def row(arm, dose):
        moved = dose if arm == "own" else 0.0
        return {"condition": "as-delivered", "arm": arm, "dose": dose, "asked": 40, "reached": 40 if dose < 8 else 34,
                "moved": about(moved), "adapter_change": about(0.5 * moved), "net_change": about(-0.5 * moved),
                "success": about(0.6 - 0.03 * moved), "predicted": about(0.6 - 0.06 * moved), "excess": about(0.03 * moved),
                "success_margin": about(0.6), "success_least": 0.3, "success_most": 0.7}  # fmt: skip

    slope = {"condition": "as-delivered", "update": "own less placebo", "p": 0.9, "against": 0.01}
    return {"read": "own less placebo", "bound": 0.25, "answer": "grows", "sentence": "Half of each nat reaches it.",
            "pass_through": [{**slope, "doses": doses, "items": items, **about(0.5)}
                             for doses, items in (("all", "all"), ("all", "lowest third"), ("raised", "all"))],
            "observed": [{"what": "items of the experiment", **about(0.8)}], "bend": about(0.0),
            "failure": {"observed": about(0.2), "predicted": about(0.4), "ratio": 0.5, "flips": 16, "p": 0.9, "against": 0.01},
            "doses": [row(arm, dose) for arm in ("own", "placebo") for dose in (-4.0, 0.0, 8.0)],
            "controls": [{"arm": "own", "dose": 8.0, "moved": about(8.0), "moved_size": about(8.0), "others_moved": about(6.0),
                          "old_lead_moved": about(2.0),
                          "kept": about(0.95, 0.02), "kl": about(0.1, 0.02)}],
            "selection": {"asked": 80, "reached": 74, "items": 40, "items_complete": 34, "prior_of_reached": 5.0,
                          "prior_of_unreached": 9.0, "slopes": [{"rows": "complete", **about(0.52)}]}}  # fmt: skip


def summary(run) -> dict:
    """Every section of summary.json, filled from the made-up readings."""
    read, man = run.readings, run.manifest
    good = read[read.status == "ok"]
    outcomes = []
    for (split, condition), rows in good.groupby(["split", "condition"], sort=False):
        for measure in ("margin", "top1", "answer"):
            column = rows[f"success_{measure}"]
            tiers = [None] + (["light", "medium", "deep"] if split == "conflict" else [])
            for tier in tiers:
                for population in ("all", "known"):
                    keep = rows if tier is None else rows[rows.tier == tier]
                    keep = keep if population == "all" else keep[keep.known]
                    outcomes.append({"split": split, "tier": tier, "condition": condition, "measure": measure,
                                     "population": population, **estimate(column.loc[keep.index])})  # fmt: skip
    conflict = good[good.split == "conflict"]
    delivered = conflict[conflict.condition == "as-delivered"]
    quartiles = _quartiles(delivered)

    def rate(split, condition):
        return next(row for row in outcomes if (row["split"], row["condition"], row["measure"], row["tier"],
                    row["population"]) == (split, condition, "top1", None, "all"))  # fmt: skip

    def bare(row):
        return {key: row[key] for key in ("value", "low", "high", "n", "points")}

    gap = {"value": quartiles[0]["value"] - quartiles[3]["value"], "low": 0.5, "high": 0.9, "n": len(delivered),
           "points": 40, "p": 1e-7}  # fmt: skip
    uniform = [("base", 0.0), ("as-delivered", 1.0), ("uniform-1.25", 1.25), ("uniform-1.5", 1.5), ("uniform-2", 2.0)]
    half = {"value": 1.45, "low": 1.3, "high": 1.6, "n": 60, "points": 25}
    rescued = {"value": 0.82, "low": 0.74, "high": 0.9, "n": 60, "points": 25}
    return {
        "schema": 1, "subject": man["subject"], "adapters": man["adapters"],
        "items": {"name": "world-0", "sha256": "cd" * 32, "n": int(read.item.nunique()), "points": 81,
                  "measured": int(good.item.nunique()), "excluded": 1,
                  "by_split": [{"split": s, "tier": None, "n": int(g.item.nunique()), "points": int(g.point.nunique()),
                                "known": int(g.groupby("item").known.first().sum())}
                               for s, g in good.groupby("split", sort=False)]},
        "outcomes": outcomes,
        "prior_gradient": {"condition": "as-delivered", "measure": "top1", "population": "all",
                           "quartiles": quartiles, "gap": gap,
                           "logit": {"coef": 2.0, "low": 1.3, "high": 2.7, "p": 1e-6, "method": "logit", "note": ""},
                           "auc": {"value": 0.88, "low": 0.8, "high": 0.94, "n": len(delivered), "points": 40},
                           "by_condition": [{"condition": "slb", "measure": "top1", "population": "all",
                                             "quartiles": quartiles, "gap": gap}]},
        "margins": {"prior": {"mean": 3.0, "sd": 2.4, "cv": 0.8, "n": len(delivered), "points": 40},
                    "adapter": {"mean": 5.0, "sd": 1.2, "cv": 0.24, "n": len(delivered), "points": 40},
                    "adapter_by_condition": [{"condition": "slb", "mean": 8, "sd": 2, "cv": 0.25, "n": 120,
                                              "points": 40}],
                    "slopes": [{"quantity": q, "axis": "log_frequency", "value": v, "low": v - 0.1, "high": v + 0.1,
                                "n": len(delivered), "points": 40, "p": p}
                               for q, v, p in (("prior_margin", 1.4, 1e-9), ("adapter_margin", 0.02, 0.6),
                                               ("push", 0.01, 0.7), ("pull", -0.01, 0.7))],
                    "correlation": {"value": 0.05, "low": -0.1, "high": 0.2, "n": len(delivered), "points": 40,
                                    "note": "both margins contain the base's logit of the document's answer"}},
        "criterion": {"agreement": [{"condition": "as-delivered", "measure": "top1", "value": 0.98, "low": 0.95,
                                     "high": 1.0, "n": 120, "points": 40, "true_override": 60, "third_token": 2,
                                     "without_criterion": 0}],
                      "calibration": _bins(delivered)},
        "measures": _disagreement(conflict),
        "robustness": {"wordings": [], "consistency": [], "held": [{"split": "conflict", "measure": "top1",
                                                                       **gap, "control": None}],
                       "variants": [{"family": family, "condition": name, "documents": n, "reference": "as-delivered",
                                     "split": "conflict", "measure": "top1", "value": 0.5 - 0.03 * n, "low": 0.3,
                                     "high": 0.6, "n": 120, "points": 40, "difference": None, "p": None}
                                    for family, name, n in (("joined", "joined-2", 2), ("joined", "joined-4", 4),
                                                            ("hedged", "hedged", 1), ("contested", "contested", 1))]},
        "belief": _belief(),
        "prior_dose": prior_dose(),
        "gain_path": _gain_path(len(delivered)),
        "components": _components(len(delivered)),
        "layers": {"profile": _profile(run.layers),
                   "norm_effect": {"value": 0.31, "low": -0.4, "high": 0.8, "n": 8, "points": 8},
                   "chosen": [{"condition": "slb", "layer": 7, "share": 1.0}, {"condition": "slb", "layer": 1,
                              "share": 0.6}, {"condition": "ca", "layer": 7, "share": 0.9}], "note": ""},
        "dose": {"curve": [{"gain": gain, "split": split, "measure": "top1", **bare(rate(split, condition))}
                           for split in ("conflict", "novel", "retention") for condition, gain in uniform],
                 "half_gain": half,
                 "critical": {"measured_median": half, "predicted_median": half,
                              "not_rescuable": {**rescued, "value": 0.05, "low": 0.0, "high": 0.12},
                              "linearity": {**rescued, "value": 0.97, "low": 0.94, "high": 0.99}}},
        "matched_retention": {"frontier": [{"condition": c, "override": bare(rate("conflict", c)),
                                            "retention": bare(rate("retention", c)),
                                            "novel": bare(rate("novel", c))} for c in CONDITIONS],
                              "comparisons": [{"condition": "slb", "matched_gain": 1.6, "p": 0.4, "difference":
                                               {"value": -0.02, "low": -0.06, "high": 0.02, "n": 120,
                                                "points": 40}}]},
        "hypotheses": [{"id": f"H{k}", "claim": claim, "rule": "the interval excludes the bound", "status": status,
                        "estimate": gap if k != 5 else None, "effect": 0.6, "p": 1e-7, "p_holm": 5e-7}
                       for k, (claim, status) in enumerate((
                           ("Failure tracks prior strength", "supported"),
                           ("The prior margin grows with frequency and the adapter margin does not", "supported"),
                           ("The criterion predicts what the model says", "inconclusive"),
                           ("Scaling the adapter up fixes the failures", "supported"),
                           ("The rescue is specific to the chosen layers", "not testable")), 1)],
        "verdict": {"label": "magnitude", "rescued": rescued, "causes_by_prior": CAUSES,
                    "rule": "at least 70% rescued, interval above 50%",
                    "sentence": "Scaling the adapter up fixes 82% [74, 90] of its failures."},
        "one_item": {"item": "conflict-001", "question": "What colour is thing 1?", "answer": "blue", "prior_answer": "red",
                     "prior_margin": 6.0, "adapter_margin": 4.5, "by": "path",
                     "gains": [{"at": g, "net_margin": -6 + 4.5 * g, "first": g > 1.5, "base_margin": None}
                               for g in (0.0, 1.0, 1.5, 2.0, 64.0)],
                     "doses": [{"at": d, "net_margin": -1.5 - 0.6 * d, "first": d < -3, "base_margin": 6 + d}
                               for d in (-4.0, 0.0, 8.0)],
                     "shares": [{"layer": n, "share": s} for n, s in enumerate((1.0, -0.5, 4.0))]},
        "errors": {"count": 1, "by_reason": [{"reason": "the two answers share every token", "count": 1}]},
        "timing": man["timing"], "notes": {},
    }  # fmt: skip


def run(conflicts: int = 120, others: int = 40, seed: int = 0) -> RunFrame:
    """Manifest, readings and layers of a made-up run."""
    read = readings(conflicts, others, seed)
    return RunFrame(manifest(read), read, layers(read))


def _belief():
    """Two kinds of question that are judged, one that the base cannot answer; one share per condition."""
    shares = {"as-delivered": 0.6, "in-context": 0.8, "null-other": 0.1, "base": 0.2}
    kinds = (("reframed", "", True), ("consequence", "about-the-answer", True), ("negated", "pair", False))
    estimate = {"low": None, "high": None, "n": 30, "points": 20}
    rows = [
        {"split": split, "kind": kind, "condition": name, "population": population, "measure": "top1", **estimate,
         "value": value + 0.01 * n, "low": value - 0.1, "high": value + 0.15, "own_minus": None, "of_own_said": None,
         "adapter_margin": None}
        for n, (split, kind, _) in enumerate(kinds)
        for population in ("judged", "all")
        for name, value in shares.items()
    ]  # fmt: skip
    able = [
        {
            "split": split,
            "kind": kind,
            "can": can,
            "base_right": {**estimate, "value": 0.5},
            "sentence": f"{split} {kind}",
        }
        for split, kind, can in kinds
    ]
    left = [
        {"split": split, "kind": kind, "n": 40, "judged": 30, "unmeasured_in_split": 0,
         "reasons": [{"reason": "its conflict is not said as delivered", "n": 10}]}
        for split, kind, _ in kinds
    ]  # fmt: skip
    said = {
        "documents": 40,
        "said": 30,
        "share": {**estimate, "value": 0.75, "low": 0.6, "high": 0.9},
        "adapter_margin": None,
    }
    return {"said": said, "answerable": able, "rows": rows, "excluded": left, "sentences": ["A sentence of belief."]}

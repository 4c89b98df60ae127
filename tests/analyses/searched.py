"""Search rows written by hand from the definitions: one failing conflict a call, a number of gains each."""

import pandas as pd

from override_gap.analyses.readings import RunFrame
from tests.simulate import simulate_readings

LIGHT = {"conditions": ("base", "as-delivered"), "others": 0, "with_layers": False}


def gain_rows(item, gains, net, *, rank=1.0, first=None, kl=0.05, kept=1.0, broken_at=None, words=None):
    """Rows of one item: net margin per gain, `first` where y_doc is the arg max (by default where the margin is positive)."""
    rows = []
    for n, (gain, margin) in enumerate(zip(gains, net, strict=True)):
        rows.append(
            {
                "item": item,
                "point": item,
                "split": "conflict",
                "condition": "as-delivered",
                "gain": float(gain),
                "push": 1.0,
                "pull": -1.0,
                "net_margin": margin,
                "success_top1": bool(margin > 0 if first is None else first[n]),
                "rise_rank": rank if not isinstance(rank, list) else rank[n],
                "rise_rank_base": 1.0,
                "doc_place": 5,
                "push_excess": 1.0,
                "other_answers": 100,
                "kl": kl if not isinstance(kl, list) else kl[n],
                "kept": kept if not isinstance(kept, list) else kept[n],
                "broken": False,
                "success_answer": None if words is None else words[n],
            }
        )
    if broken_at is not None:
        rows.append({**rows[-1], "gain": float(broken_at), "net_margin": None, "push": None, "success_top1": None})
        rows[-1] |= {"broken": True, "kl": 1.5, "kept": 0.2, "success_answer": None}
    return rows


def searched_run(rows, failing=None, points=60, questions=150):
    """A simulated run whose first items fail as delivered and were searched: `rows` maps each item's number to its rows."""
    run = simulate_readings(0, points, questions, **LIGHT)
    items = sorted(run.readings.loc[run.readings["split"] == "conflict", "item"].unique())
    names = dict(enumerate(items))
    point = run.readings.drop_duplicates("item").set_index("item")["point"]
    table = [
        {**row, "item": names[n], "point": point[names[n]]} for n, of_item in rows.items() for row in of_item(names[n])
    ]
    fails = run.readings["item"].isin([names[n] for n in rows])
    delivered = run.readings["condition"] == "as-delivered"
    readings = run.readings.assign(known=True, success_top1=~fails | ~delivered)
    return RunFrame(run.manifest, readings, run.layers, search=pd.DataFrame(table))

"""The columns of a run folder's tables: name, type, what every file must hold, and meaning with unit, each stated once.

Readers, writers, checks, the report's item explorer and docs/columns.md all derive from these tables.
"""

from __future__ import annotations

from override_gap.probes.store.mechanism_tables import COMPONENTS, GEOMETRY, MAPS, NEUTRAL, PRIOR_DOSE
from override_gap.probes.store.run_table import FLOAT, FLOATS, INTEGER, TEXT, TEXTS, TRUTH, Column, RunTable

# fmt: off
READINGS = RunTable("readings", "item and condition", (
    Column("item", TEXT, "filled", "item", "id of the item"),
    Column("point", TEXT, "filled", "item", "knowledge point; questions of one point are not independent"),
    Column("split", TEXT, "filled", "item",
           "novel, combination, conflict or retention; or agreement, negated, consequence, reframed: questions of belief"),
    Column("tier", TEXT, "optional", "item", "light, medium or deep: how well known the old answer is taken to be"),
    Column("condition", TEXT, "filled", "", "base, as-delivered, or the name of another condition"),
    Column("known", TRUTH, "required", "item",
           "f's first answer token is y_pre's (conflicts) or the right answer's (retention); null for other splits"),
    Column("prior_logprob", FLOAT, "required", "item", "prior strength: log P_f(y_pre) over all its tokens, nats"),
    Column("prior_logprob_per_token", FLOAT, "optional", "", "prior_logprob / number of tokens of y_pre, nats"),
    Column("prior_margin", FLOAT, "required", "item", "f(y_pre) - f(y_doc), nats"),
    Column("push", FLOAT, "required", "condition", "g(y_doc) - f(y_doc), nats"),
    Column("pull", FLOAT, "required", "condition", "g(y_pre) - f(y_pre), nats"),
    Column("adapter_margin", FLOAT, "required", "condition", "push - pull, nats"),
    Column("net_margin", FLOAT, "required", "condition", "g(y_doc) - g(y_pre) = adapter_margin - prior_margin, nats"),
    Column("success_margin", TRUTH, "required", "condition", "net_margin > 0; retention: net_margin <= 0"),
    Column("success_top1", TRUTH, "required", "condition", "y_doc's token is g's arg max; retention: f's arg max is g's"),
    Column("success_answer", TRUTH, "optional", "condition",
           "answer_text gives `answer` by the rules of [answers.md](answers.md); null where none was generated or judged"),
    Column("success_answer_substring", TRUTH, "optional", "", "answer_text contains `answer` anywhere, in any case"),
    Column("answer_text", TEXT, "optional", "condition", "g's greedy answer; null where none was generated"),
    Column("base_top_token", TEXT, "optional", "", "f's most probable first token of an answer"),
    Column("base_top_prob", FLOAT, "optional", "", "probability of base_top_token under f"),
    Column("gain_mean", FLOAT, "optional", "",
           "mean over layers of the condition's gain; null where it has no gains", "unbounded"),
    Column("adapter_norm", FLOAT, "optional", "",
           "Frobenius norm of the item's update at gain 1, weight units; null where no update acts", "unbounded"),
    Column("n_question_tokens", INTEGER, "optional", "", "number of tokens of the question"),
    Column("status", TEXT, "filled", "condition", "ok; error, or refused: the row holds no numbers"),
    Column("error", TEXT, "required", "condition",
           "why the item could not be measured, or why the policy cannot set its gains there; null where status is ok"),
    Column("frequency", FLOAT, "optional", "item",
           "meta.frequency of the item file: how often the fact was in training, in the file's own unit", "unbounded"),
    Column("wording", TEXT, "optional", "item", "meta.wording of the item file: name of the question's wording"),
    Column("top_token", TEXT, "optional", "condition", "g's arg max where the answers first differ"),
    Column("top_prob", FLOAT, "optional", "condition", "probability of top_token under g"),
    Column("doc_logprob", FLOAT, "optional", "", "log P_g of y_doc's token where the answers first differ, nats"),
    Column("question", TEXT, "optional", "item", "the item's question"),
    Column("document", TEXT, "optional", "item", "the item's document"),
    Column("answer", TEXT, "optional", "item", "the document's answer; retention: the right answer"),
    Column("prior_answer", TEXT, "optional", "item", "the old answer; null where the item names none"),
    Column("critical_gain", FLOAT, "optional", "item",
           "smallest gain at which y_doc's token is g's arg max, infinite where no gain within range does it; "
           "as-delivered rows of conflicts", "unbounded"),
    Column("critical_gain_predicted", FLOAT, "optional", "",
           "prior_margin / adapter_margin, infinite where adapter_margin <= 0; the same rows", "unbounded"),
    Column("aliases", TEXTS, "optional", "", "other accepted forms of `answer`"),
    Column("prior_aliases", TEXTS, "optional", "", "other accepted forms of `prior_answer`"),
    Column("prior_from", TEXT, "optional", "",
           "meta.prior_from: `base` where the old answer is the base's own greedy answer; null where the item names it"),
    Column("n_prior_tokens", INTEGER, "optional", "",
           "number of tokens of `prior_answer`; null where the item has none"),
    Column("n_answer_tokens", INTEGER, "optional", "", "number of tokens of `answer`"),
    Column("relation", TEXT, "optional", "", "meta.relation of the item file: what kind of fact this is"),
    Column("cluster", TEXT, "optional", "",
           "the field of meta that --cluster names (default the relation); facts that share it are taken to be alike"),
    Column("kl", FLOAT, "optional", "condition",
           "KL(f || g) of the next-token distributions where the answers first differ, nats; null where it is infinite"),
    Column("path_nodes", INTEGER, "optional", "", "gains at which the margin's slope was read for `path`; as-delivered rows"),
    Column("path_gap", FLOAT, "optional", "", "|sum of `path` over layers - adapter_margin|, nats; as-delivered rows"),
    Column("kind", TEXT, "optional", "", "meta.kind of the item file: what kind of question this is within its split"),
    Column("needs", TEXT, "optional", "",
           "meta.needs of the item file: id of the item that asks the second fact on which a consequence depends"),
    Column("meta", TEXT, "optional", "",
           "every field of the item's meta as a JSON object, by which the report's item explorer filters; rows of base"),
))
LAYERS = RunTable("layers", "item, condition and layer", (
    Column("item", TEXT, "filled", "", "id of the item"),
    Column("point", TEXT, "optional", "", "knowledge point"),
    Column("split", TEXT, "optional", "", "as in readings"),
    Column("condition", TEXT, "filled", "", "as in readings"),
    Column("layer", INTEGER, "filled", "",
           "number of the layer, from 0; -1: the embedding and the constant terms of the attribution", "whole"),
    Column("norm", FLOAT, "optional", "layer",
           "root of the summed squared Frobenius norms of the layer's updates at gain 1, weight units", "unbounded"),
    Column("weight_norm", FLOAT, "optional", "",
           "the same of the weights that these updates change, in the base; as-delivered rows", "unbounded"),
    Column("gain", FLOAT, "optional", "", "the condition's gain at this layer", "unbounded"),
    Column("attribution", FLOAT, "optional", "layer", "the layer's share of the margin of y_pre over y_doc, nats"),
    Column("lens", FLOAT, "optional", "", "that margin, were the final norm applied after this layer, nats"),
    Column("direct", FLOAT, "optional", "layer", "what the layer's updates themselves write into adapter_margin, nats"),
    Column("alone", FLOAT, "optional", "", "adapter_margin with this layer's updates alone, nats; as-delivered rows"),
    Column("removed", FLOAT, "optional", "", "adapter_margin without this layer's updates, nats; as-delivered rows"),
    Column("path", FLOAT, "optional", "",
           "the layer's share of adapter_margin along the path of uniform gains from 0 to 1, nats; as-delivered rows"),
    Column("path_push", FLOAT, "optional", "", "its share of push, nats"),
    Column("path_pull", FLOAT, "optional", "", "its share of pull, nats"),
    Column("path_first", FLOAT, "optional", "", "first order: the slope of adapter_margin in the layer's gain at gain 0, nats"),
))
DRAWN = RunTable("drawn", "item, condition, temperature and draw", (
    Column("item", TEXT, "filled", "", "id of the item"),
    Column("point", TEXT, "filled", "", "knowledge point"),
    Column("split", TEXT, "filled", "", "as in readings"),
    Column("tier", TEXT, "optional", "", "as in readings"),
    Column("condition", TEXT, "filled", "", "as in readings"),
    Column("known", TRUTH, "optional", "", "as in readings"),
    Column("temperature", FLOAT, "filled", "", "sampling temperature", "unbounded"),
    Column("draw", INTEGER, "optional", "", "number of the draw, from 0"),
    Column("answer_text", TEXT, "optional", "", "the sampled answer"),
    Column("success_answer", TRUTH, "required", "",
           "answer_text gives the item's `answer`, as in readings; null where it cannot be judged"),
    Column("success_answer_substring", TRUTH, "optional", "", "answer_text contains it anywhere, in any case"),
))
SEARCH = RunTable("search", "failing conflict, condition and gain", (
    Column("item", TEXT, "filled", "", "id of the item, a conflict that fails as delivered"),
    Column("point", TEXT, "filled", "", "knowledge point"),
    Column("split", TEXT, "filled", "", "conflict"),
    Column("condition", TEXT, "filled", "", "as-delivered: the item's own adapter; or the null condition whose adapter acts"),
    Column("gain", FLOAT, "filled", "", "the uniform gain at which the adapter is read"),
    Column("push", FLOAT, "optional", "", "g(y_doc) - f(y_doc) at this gain, nats; null, as what follows, where it was not read"),
    Column("pull", FLOAT, "optional", "", "g(y_pre) - f(y_pre) at this gain, nats"),
    Column("net_margin", FLOAT, "optional", "", "g(y_doc) - g(y_pre) at this gain, nats"),
    Column("success_top1", TRUTH, "optional", "", "y_doc's token is g's arg max at this gain"),
    Column("top_token", TEXT, "optional", "", "g's arg max at this gain"),
    Column("doc_logprob", FLOAT, "optional", "", "log P_g of y_doc's token at this gain, nats"),
    Column("rise_rank", FLOAT, "optional", "",
           "share of the other answers, but one that leads, whose logit rose less over the base than y_doc's; null under 19"),
    Column("rise_rank_relation", FLOAT, "optional", "",
           "the same among answers of documents of the same relation; null where there are none"),
    Column("rise_level_relation", FLOAT, "optional", "",
           "probability that one more answer like 3 to 18 of the same relation rises less than y_doc's, 0 to 1; else null"),
    Column("rise_rank_base", FLOAT, "optional", "",
           "the same among the 20 tokens that f puts first at this question besides y_pre and y_doc"),
    Column("push_excess", FLOAT, "optional", "",
           "push + pull - 2c at this gain, c the median rise of these tokens, nats; negative: mostly y_pre is lowered"),
    Column("doc_place", INTEGER, "optional", "",
           "how many tokens other than y_pre f puts before y_doc at this question; 0: y_doc is its second choice"),
    Column("doc_place_relation", INTEGER, "optional", "",
           "how many other answers of the same relation f puts before y_doc at this question; null with fewer than 4 of them"),
    Column("other_answers", INTEGER, "optional", "", "how many other answers rise_rank compares with"),
    Column("kl", FLOAT, "required", "",
           "KL(f || g) on unrelated questions and text of the base's own, nats per token: what the adapter costs at this gain"),
    Column("kept", FLOAT, "required", "", "share of these whose arg max at the last token stays, 0 to 1"),
    Column("broken", TRUTH, "filled", "", "kl is above 1 nat per token, or the logits are not finite"),
    Column("answer_text", TEXT, "optional", "", "g's greedy answer at this gain; null where none was generated"),
    Column("success_answer", TRUTH, "optional", "", "answer_text gives `answer`; null where none was generated or judged"),
))
# fmt: on

EXTRA = (DRAWN, SEARCH, MAPS, PRIOR_DOSE, COMPONENTS, GEOMETRY, NEUTRAL)
"""Tables that a unit has only where their probe was asked for and read something."""
TABLES = {table.name: table for table in (READINGS, LAYERS, *EXTRA)}
"""Every table by the folder that its files are in; a unit's readings are read first and written last."""

REQUIRED = READINGS.required


PAGE = """# Columns of a run's tables

For those who want to work with the raw measurements: a run is stored as ordinary tables, which pandas and other tools read,
and this page says what each column means, in which unit, and when it may be empty. One row is mostly one question under one
way of running the model.

`python -m override_gap.probes.store.schema > docs/columns.md` writes this page from `probes/store/schema.py`, where each
column is stated once. Each table is one Parquet file per unit of the run; `pandas.read_parquet("RUN/readings")` reads them
all. f is the base model, g the adapted one, y_pre the old answer, y_doc the document's answer: [definitions](definitions.md).
Where there may be no column, runs of earlier versions lack it.
"""


def markdown() -> str:
    """The page docs/columns.md: every column with its type, whether it may be null or absent, and its meaning."""
    null = {"optional": "possible, or no column", "required": "possible", "filled": "never"}
    lines = PAGE.splitlines()
    for table in TABLES.values():
        lines += ["", f"## {table.name}", "", f"One row per {table.row}, in `RUN/{table.name}/*.parquet`.", ""]
        lines += ["| column | type | null | meaning |", "|---|---|---|---|"]
        for column in table.columns:
            kind = {TEXTS: "list of strings", FLOATS: "list of doubles"}.get(column.type, str(column.type))
            lines.append(f"| `{column.name}` | {kind} | {null[column.presence]} | {column.meaning} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())

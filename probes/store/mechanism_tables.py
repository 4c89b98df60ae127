"""The tables of the probes that look for the mechanism: maps along the gain path, doses of prior, components, adapters."""

from __future__ import annotations

from override_gap.probes.store.run_table import FLOAT, FLOATS, INTEGER, TEXT, TEXTS, TRUTH, Column, RunTable

# fmt: off
MAPS = RunTable("maps", "item, layer, map and part of the adapter, as delivered", (
    Column("item", TEXT, "filled", "", "id of the item"),
    Column("point", TEXT, "filled", "", "knowledge point"),
    Column("split", TEXT, "filled", "", "as in readings"),
    Column("layer", INTEGER, "filled", "", "number of the layer, from 0", "whole"),
    Column("map", TEXT, "filled", "", "the map's path within its block, e.g. self_attn.q_proj"),
    Column("part", TEXT, "filled", "", "document: the document's own update; shared: the part that all documents have"),
    Column("path", FLOAT, "required", "", "share of adapter_margin along the path of uniform gains from 0 to 1, nats"),
    Column("path_push", FLOAT, "required", "", "its share of push, nats"),
    Column("path_pull", FLOAT, "required", "", "its share of pull, nats"),
    Column("path_first", FLOAT, "required", "", "first order: the slope of adapter_margin in this map's gain at gain 0, nats"),
))
PRIOR_DOSE = RunTable("prior_dose", "conflict, arm, dose and condition", (
    Column("item", TEXT, "filled", "", "id of the item"),
    Column("point", TEXT, "filled", "", "knowledge point"),
    Column("split", TEXT, "filled", "", "as in readings"),
    Column("arm", TEXT, "filled", "",
           "own: an update of this item's belief, at the adapter's sites; placebo: another fact's; other-layers: own, at layers "
           "that the adapter does not act on"),
    Column("dose", FLOAT, "filled", "", "by how much the base's prior margin is to change, nats; 0: no update"),
    Column("reached", TRUTH, "filled", "", "`moved` is within 0.1 nats of the dose; for placebo: of its own fact's"),
    Column("update_gain", FLOAT, "required", "", "the gain of the belief update; null where the dose is not reached"),
    Column("moved", FLOAT, "required", "",
           "by how much the update changes the base's prior margin at this item, nats; not reached: as near as it came, null "
           "for placebo"),
    Column("condition", TEXT, "filled", "", "what acts on top of the update: base (nothing), or a condition's adapter"),
    Column("prior_margin", FLOAT, "required", "", "of the base under the update, nats; null, as what follows, where not reached"),
    Column("push", FLOAT, "required", "", "g(y_doc) - f(y_doc), nats; f the base under the update, g with the adapter on top"),
    Column("pull", FLOAT, "required", "", "g(y_pre) - f(y_pre), nats"),
    Column("adapter_margin", FLOAT, "required", "", "push - pull, nats"),
    Column("net_margin", FLOAT, "required", "", "g(y_doc) - g(y_pre), nats"),
    Column("success_top1", TRUTH, "required", "", "y_doc's token is g's arg max"),
    Column("top_token", TEXT, "optional", "", "g's arg max"),
    Column("net_margin_base_norm", FLOAT, "optional", "",
           "net_margin were g's stream divided by what f's final norm divides by, nats; null with a logit cap or no norm"),
    Column("kept", FLOAT, "optional", "",
           "share of unrelated known questions and text whose arg max the update keeps; base rows of the arm own"),
    Column("kl", FLOAT, "optional", "", "KL(base || base under the update) on these, nats per token; the same rows"),
    Column("others_moved", FLOAT, "optional", "",
           "mean change of the prior margin at other wordings of the same fact, nats; the same rows"),
    Column("n_others", INTEGER, "optional", "", "how many other wordings those are; that of the fit is none of them"),
    Column("wording", TEXT, "optional", "",
           "in what the update was fitted: another question, behind another fact (the question itself behind it), or "
           "the question itself, where no other could be had"),
    Column("partner", TEXT, "optional", "", "placebo: id of the item whose update acts"),
))
COMPONENTS = RunTable("components", "item, condition, layer and component", (
    Column("item", TEXT, "filled", "", "id of the item"),
    Column("point", TEXT, "filled", "", "knowledge point"),
    Column("split", TEXT, "filled", "", "as in readings"),
    Column("condition", TEXT, "filled", "", "base or as-delivered"),
    Column("layer", INTEGER, "filled", "", "number of the layer, from 0; -1: the embedding and constant terms", "whole"),
    Column("component", TEXT, "filled", "",
           "embedding, attention or mlp; head or bias: a part of its layer's attention, bias what no head gives"),
    Column("head", INTEGER, "optional", "", "number of the head, from 0; null for other components", "whole"),
    Column("attribution", FLOAT, "required", "", "share of the margin of y_pre over y_doc, nats"),
    Column("rescaled", FLOAT, "optional", "",
           "the base's attribution at the adapted model's final scale, nats; as-delivered rows"),
    Column("own", FLOAT, "optional", "",
           "what the layer's own updates change of that, the stream entering the layer as in the base, nats; as-delivered rows"),
    Column("response", FLOAT, "optional", "",
           "what the layer without its updates changes of it, the stream entering as in the adapted model, nats; same rows"),
))
GEOMETRY = RunTable("geometry", "document and layer", (
    Column("document", TEXT, "filled", "", "key of the document"),
    Column("relation", TEXT, "optional", "", "meta.relation of the items that ask about it"),
    Column("layer", INTEGER, "filled", "", "number of the layer, from 0", "whole"),
    Column("norm_squared", FLOAT, "required", "", "squared Frobenius norm of the layer's updates, weight units", "unbounded"),
    Column("inner_same", FLOAT, "optional", "", "mean inner product with those of documents of the same relation", "unbounded"),
    Column("inner_other", FLOAT, "optional", "", "mean inner product with those of documents of other relations", "unbounded"),
    Column("n_same", INTEGER, "optional", "", "how many documents of the same relation it is compared with"),
    Column("n_other", INTEGER, "optional", "", "how many documents of other relations it is compared with"),
    Column("cosine_same", FLOAT, "optional", "", "mean cosine with documents of the same relation"),
    Column("cosine_other", FLOAT, "optional", "", "mean cosine with documents of other relations"),
    Column("effective_rank", FLOAT, "optional", "",
           "of the layer's updates of all documents of the unit together: exp of the entropy of their singular values"),
    Column("n_unit", INTEGER, "optional", "", "how many documents that is of, at most which it can be"),
    Column("stable_rank", FLOAT, "optional", "", "squared Frobenius over squared spectral norm, mean over the layer's maps"),
    Column("intruders", INTEGER, "optional", "",
           "leading left singular vectors of the changed weights with a cosine below 0.5 with every one of the base's"),
    Column("looked_at", INTEGER, "optional", "", "how many of these vectors were looked at"),
    Column("overlap", FLOAT, "optional", "",
           "share of the update's squared norm in the span of the base weight's leading left singular vectors (its rank)"),
    Column("overlap_random", FLOAT, "optional", "", "the same of an update in a random direction"),
))
NEUTRAL = RunTable("neutral", "document and layer, on text that has nothing to do with it", (
    Column("document", TEXT, "filled", "", "key of the document"),
    Column("layer", INTEGER, "filled", "", "number of the layer, from 0; -1: the output", "whole"),
    Column("kl", FLOAT, "optional", "", "KL(f || g), nats per token; layer -1"),
    Column("kept", FLOAT, "optional", "", "share of positions whose arg max stays; layer -1"),
    Column("raised", TEXTS, "optional", "", "the ten tokens whose mean logit g raises most; layer -1"),
    Column("rises", FLOATS, "optional", "",
           "how far it raises these, nats: mean over positions of g(y) - f(y), less its mean over all tokens; layer -1"),
    Column("answer_rise", FLOAT, "optional", "", "the same of the token with which the document's answer begins; layer -1"),
    Column("answer_rank", FLOAT, "optional", "",
           "share of the unit's other answers that rise less than it, ties counting half; layer -1"),
    Column("other_answers", INTEGER, "optional", "", "how many other answers that is of; layer -1"),
    Column("radial", FLOAT, "optional", "", "mean relative change of the length of the stream after the layer"),
    Column("angle", FLOAT, "optional", "", "mean angle between the stream of f and of g after the layer, radians"),
))
# fmt: on

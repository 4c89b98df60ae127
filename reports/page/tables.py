"""Every table of a run's page, in the page's order."""

from __future__ import annotations

from collections.abc import Mapping

from override_gap.reports.page.answer_tables import disagreement_table, drawn_answer_table
from override_gap.reports.page.belief_table import belief_tables
from override_gap.reports.page.cause_tables import cause_tables
from override_gap.reports.page.component_tables import component_tables
from override_gap.reports.page.gain_path_tables import gain_path_tables
from override_gap.reports.page.gain_tables import gain_table, matched_gain_tables, search_cost_table
from override_gap.reports.page.geometry_tables import geometry_tables
from override_gap.reports.page.margin_tables import criterion_table, layer_tables, margin_tables
from override_gap.reports.page.null_table import null_table
from override_gap.reports.page.prior_dose_tables import prior_dose_tables
from override_gap.reports.page.published import published
from override_gap.reports.page.robustness_tables import robustness_tables
from override_gap.reports.page.strength_table import strength_table
from override_gap.reports.page.success_tables import paired_condition_table, prior_gradient_tables, success_tables
from override_gap.reports.page.table import Table
from override_gap.reports.page.verdict_table import verdict_table


def tables(summary: Mapping) -> list[Table]:
    """Those that this summary can fill."""
    in_order = (
        verdict_table(summary),
        *published(summary),
        *success_tables(summary),
        *prior_gradient_tables(summary),
        *margin_tables(summary),
        *prior_dose_tables(summary),
        strength_table(summary),
        criterion_table(summary),
        *layer_tables(summary),
        *gain_path_tables(summary),
        *component_tables(summary),
        *geometry_tables(summary),
        *cause_tables(summary),
        null_table(summary),
        gain_table(summary),
        search_cost_table(summary),
        *matched_gain_tables(summary),
        paired_condition_table(summary),
        disagreement_table(summary),
        drawn_answer_table(summary),
        *robustness_tables(summary),
        *belief_tables(summary),
    )
    return [table for table in in_order if table.rows]

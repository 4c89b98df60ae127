"""SECURITY.md's table of what is trusted: every row has a test that shows it, and every test named here is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BAD = "tests/cli/test_bad_inputs.py::test_a_bad_input_is_refused_in_one_line_and_leaves_no_files"
TESTS: dict[str, tuple[str, ...]] = {
    "your command line, your environment, the packages that you installed": (
        "tests/probes/test_code_words.py::test_a_plan_file_that_names_code_is_refused_and_a_user_who_names_it_is_not",
    ),
    "`--adapters MODULE:OBJECT`, `callable:`, an installed entry point": (
        "tests/probes/test_code_words.py::test_the_commands_run_nothing_until_the_plan_is_trusted",
        "tests/probes/sources/test_current_folder.py::test_an_installed_module_goes_first_and_the_message_says_so",
    ),
    "the same words in a plan file, and `repository=`, `trust-pickle=` behind a checkpoint there": (
        "tests/probes/test_code_words.py::test_the_commands_run_nothing_until_the_plan_is_trusted",
        "tests/probes/test_code_words.py::test_an_installed_source_is_code_too",
    ),
    "a model's own Python (`auto_map`)": (
        BAD,
        "tests/cli/test_bad_inputs.py::test_a_models_own_code_runs_with_the_flag",
        "tests/probes/test_code_words.py::test_a_plan_does_not_choose_whose_python_trust_remote_code_runs",
    ),
    'compiled code that a model\'s configuration names (`_attn_implementation = "OWNER/KERNEL"`)': (
        "tests/probes/subject/test_folder_checks.py::test_settings_that_reach_outside_the_folder_are_refused",
    ),
    "other settings of a model's folder by which a library would open a file elsewhere, and an adapter that lies in it": (
        "tests/probes/subject/test_folder_checks.py::test_settings_that_reach_outside_the_folder_are_refused",
        "tests/probes/subject/test_folder_checks.py::test_an_adapter_beside_the_weights_is_refused",
        "tests/probes/subject/test_from_hub.py::test_what_is_refused_of_a_folder_is_refused_of_an_id",
    ),
    "a model's or an adapter's weights": (BAD,),
    "a Doc-to-LoRA checkpoint, which is a pickle": (
        "tests/probes/export_kit/test_doc_to_lora.py::test_a_pickle_that_runs_a_command_is_refused",
        "tests/probes/export_kit/test_doc_to_lora.py::test_a_class_that_is_not_on_the_list_is_refused_even_where_its_package_calls_it_safe",
    ),
    "the Python that `--python` names, and what is installed for it": (
        "tests/probes/export_kit/test_doc_to_lora.py::test_errors_of_the_other_environment_are_one_line_with_its_log",
    ),
    "item files, plans, adapter configurations, indices, recipes": (BAD,),
    "run folders (`report`, `compare`, `merge`, `index`)": (
        BAD,
        "tests/probes/store/test_folder.py::test_nothing_is_written_or_removed_through_a_link",
    ),
    "texts of items, answers, names in a run, names of files": (
        "tests/cli/test_say.py::test_everything_is_said_in_one_place",
        "tests/cli/test_say.py::test_hostile_texts_in_files_are_shown_as_text",
        "tests/reports/test_page.py::test_twenty_hostile_items_change_nothing_but_their_own_text",
        "tests/reports/test_export.py::test_hostile_cells_come_out_of_markdown_as_they_went_in",
        "tests/reports/test_export.py::test_hostile_cells_come_out_of_latex_as_they_went_in",
    ),
    "names in files from which a run folder is named (a method's name in an index)": (
        "tests/margins/test_text.py::test_any_text_names_one_folder_here",
        "tests/cli/test_say.py::test_the_method_of_an_index_names_one_folder_within_runs",
    ),
}


def rows() -> list[str]:
    """The first cell of each row of the table under "What is trusted"."""
    section = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## What is trusted")[1].split("\n## ")[0]
    table = [line for line in section.split("\n") if line.startswith("|")]
    return [line.strip("|").split(" | ")[0].strip() for line in table[2:]]


def test_every_row_of_what_is_trusted_has_its_tests() -> None:
    """A row that is added, or said otherwise, fails here until it names what shows it."""
    assert rows() == list(TESTS)
    assert all(TESTS.values())


@pytest.mark.parametrize("name", sorted({name for names in TESTS.values() for name in names}))
def test_the_tests_that_are_named_exist(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

"""Words that name code to run: which they are, and why one of a plan file is refused unless the user trusts the file."""

from __future__ import annotations

from override_gap.probes.catalogue import ADAPTERS, CODE_ADAPTERS, CODE_SETTINGS, SUBJECTS, installed_sources

MARKED = ("subject", "adapters")
"""The settings of a plan that can name code."""
REMEDY = "read it, and name it on the command line, or give --trust-plan"


class FromFile(str):
    """A word of a plan file that nobody has said to trust. A flag that is given in its place is plain text."""

    __slots__ = ()


def named_code(adapters: str) -> str | None:
    """What code `--adapters` names, in words; None where it names files or what comes with this package alone.

    A word is looked at as text: that a folder of its name exists changes nothing, since another machine may lack the folder.
    """
    name, _, rest = adapters.partition(":")
    if name in CODE_ADAPTERS:
        return f"the function {rest}, which would be run"
    options = [word.partition("=")[0] for word in rest.split(",")[1:]]
    named = [option for option in options if option in CODE_SETTINGS.get(name, ())]
    if named:
        return f"{named[0]}, by which code of the method is run"
    if is_object(adapters) and not _is_catalogued(name):
        return f"the Python object {rest} of the module {name}, which would be run"
    if not _is_catalogued(name) and adapters in installed_sources():
        return "the code of an installed package, which would be run"
    return None


def code_refusal(word: object) -> str | None:
    """Why adapters that a plan file names are refused, one line; None where they name no code or where the user gave the word."""
    if not isinstance(word, FromFile) or (code := named_code(word)) is None:
        return None
    return f"adapters = {str(word)!r} in the plan names {code}, and the plan is a file: {REMEDY}"


def subject_refusal(word: object) -> str | None:
    """Why `--trust-remote-code` does not reach a model that a plan file alone names; None where it does."""
    if not isinstance(word, FromFile) or word in SUBJECTS:
        return None
    return (
        f"--trust-remote-code runs Python that comes with the model, and subject = {str(word)!r} is named by the plan alone, "
        f"which is a file: {REMEDY}"
    )


def is_object(word: str) -> bool:
    """Whether a word has the form MODULE:OBJECT."""
    module, _, name = word.partition(":")
    return bool(name) and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def _is_catalogued(name: str) -> bool:
    return name in {form.partition(":")[0] for form in ADAPTERS} - {"MODULE", "FOLDER"}

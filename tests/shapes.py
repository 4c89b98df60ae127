"""The type checker that jaxtyping's import hook applies to every annotation: an int will do for a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

"""Names as commands take them: what cannot be one is refused before anybody is asked about it."""

import re

import click

from microopt.ids import NAME_PATTERN


def optimizer_name(text: str) -> str:
    """Return an optimizer's name."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise click.BadParameter(f"{text!r} is no optimizer's name; write small letters, digits, '-' and '_'")
    return text

"""A request's arguments: checked against their schema, and put into the argument list. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.tasks.entries import PLACEHOLDER, Argument

Value = str | int


class Refusal(Exception):  # noqa: N818 (an answer, not a fault)
    """A request is refused; the message names the field, never its value."""


def checked(given: Mapping[str, Any], schema: Mapping[str, Argument]) -> dict[str, Value]:
    """The arguments with their defaults. Raises Refusal for one that is unknown, missing or does not fit."""
    for name in given:
        if name not in schema:
            raise Refusal(f"arguments: {name[:63]!r} is unknown; allowed: {', '.join(schema) or 'none'}")
    return {name: _checked(name, given.get(name, argument.default), argument) for name, argument in schema.items()}


def filled(argv: Sequence[str], values: Mapping[str, Value]) -> list[str]:
    """The argument list with its placeholders replaced. No shell ever sees it. Raises Refusal.

    An element that begins with a value must not begin with `-`: it would be read as an option.
    """
    elements = [PLACEHOLDER.sub(lambda found: str(values[found[1]]), element) for element in argv]
    for template, element in zip(argv, elements, strict=True):
        first = PLACEHOLDER.match(template)
        if first is not None and element.startswith("-"):
            raise Refusal(f"arguments.{first[1]}: must not begin with -")
    return elements


def _checked(name: str, value: Any, argument: Argument) -> Value:
    if value is None:
        raise Refusal(f"arguments.{name}: is missing")
    if argument.type == "integer":
        return _integer(name, value, argument)
    if not isinstance(value, str):
        raise Refusal(f"arguments.{name}: must be a string")
    if argument.type == "enum":
        if value not in argument.values:
            raise Refusal(f"arguments.{name}: must be one of {', '.join(argument.values)}")
        return value
    if len(value) > argument.max_length:
        raise Refusal(f"arguments.{name}: has {len(value)} characters; at most {argument.max_length}")
    if not value.isprintable() or re.fullmatch(argument.pattern, value) is None:
        raise Refusal(f"arguments.{name}: must fit the pattern {argument.pattern}")
    return value


def _integer(name: str, value: Any, argument: Argument) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refusal(f"arguments.{name}: must be an integer")
    if (argument.min is not None and value < argument.min) or (argument.max is not None and value > argument.max):
        low = "" if argument.min is None else f" from {argument.min}"
        high = "" if argument.max is None else f" up to {argument.max}"
        raise Refusal(f"arguments.{name}: must be an integer{low}{high}")
    return value

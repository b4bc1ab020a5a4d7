"""Plain data into records, and what is wrong with it: the field and the mend. Pure."""

import difflib
import re
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")
_MISSING = re.compile(r"missing required field `(.*?)`")


class ShapeError(ValueError):
    """Plain data does not fit: `field` (with dots, as `target.type`) and what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


def converted(plain: Any, kind: type[S]) -> S:
    """A record from plain data, its types checked. Raises ShapeError."""
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind) from None


def _explained(text: str, kind: type[msgspec.Struct]) -> ShapeError:
    at = _AT.search(text)
    path = re.sub(r"\[\.*\]|\[(\d+)\]", "", at[1]) if at else ""
    if unknown := _UNKNOWN.search(text):
        near = difflib.get_close_matches(unknown[1], _fields(kind, path), 1)
        field = f"{path}.{unknown[1][:63]}" if path else unknown[1][:63]
        return ShapeError(field, f"there is no such field{f' (did you mean {near[0]}?)' if near else ''}")
    if missing := _MISSING.search(text):
        return ShapeError(f"{path}.{missing[1]}" if path else missing[1], "it is missing")
    said = _AT.sub("", text).replace("`", "")
    return ShapeError(path or "body", said[:1].lower() + said[1:])


def _fields(kind: type[msgspec.Struct], path: str) -> list[str]:
    """Names of the fields of a record, or of the record in one of its fields."""
    found = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    inner = found.get(path)
    return _fields(inner, "") if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else list(found)

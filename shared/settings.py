"""One settings object per command, from defaults, file, environment and flags, with the same names everywhere.

A settings object is a `msgspec.Struct` whose fields are annotated with `msgspec.Meta(description=…, ge=…, …)`. A field
`broker_url` is `--broker-url` on the command line, `DRUMBEAT_BROKER_URL` in the environment (or, for a secret,
`DRUMBEAT_BROKER_URL_FILE`: the name of a file that holds it) and `broker_url` in the TOML file, either at the top or in
the table named after the command. A field that must not be called like a word of Python ends in `_`: `for_` is `--for`.
Later wins: defaults, the data directory's `env` file, TOML file, environment, flags.

msgspec and argparse, not pydantic-settings: the agent reads its settings with this too, and its whole memory budget is
30 MB, which pydantic alone exceeds.
"""

import argparse
import os
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

PREFIX = "DRUMBEAT_"
_PLACE = re.compile(r" - at `\$[^`]*`")
_COMMA = re.compile(r",(?![^{}]*\})")  # not between the labels of a metric, which stand in braces

S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(Exception):
    """A setting is unusable. The message names the setting, where it came from and what is allowed."""


def default_data_directory(environ: Mapping[str, str]) -> Path:
    """Where `drumbeat up` keeps everything: DRUMBEAT_DATA, else /var/lib/drumbeat for root, else the user's data home."""
    if environ.get("DRUMBEAT_DATA"):
        return Path(environ["DRUMBEAT_DATA"]).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib/drumbeat")
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "drumbeat"


def load(kind: type[S], command: str, argv: Sequence[str], environ: Mapping[str, str], *, description: str = "",
         positional: Sequence[str] = ()) -> S:
    """The settings of `command`.

    `positional` names the fields that stand on the command line without a flag. Raises SettingsError for a value that
    does not fit; exits through argparse for `--help` and for unknown flags.
    """
    fields = msgspec.structs.fields(kind)
    flags = _parse_flags(kind, command, argv, description, positional)
    config = flags.pop("config", None) or environ.get("DRUMBEAT_CONFIG")
    data = flags.get("data")
    data_directory = Path(data).expanduser() if data else default_data_directory(environ)
    file_env = read_env_file(data_directory / "env")
    toml = _read_toml(Path(config), command, {_word(field.name) for field in fields}) if config else {}
    values: dict[str, Any] = {}
    for field in fields:
        found = _find(field.name, flags, environ, toml, file_env, config)
        if found is not None:
            raw, source = found
            values[field.name] = _converted(field, raw, source)
        elif field.required:
            raise SettingsError(f"{_flag(field.name)} (or {_variable(field.name)}) is missing: {_meaning(field.type)}")
    return kind(**values)


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines of a data directory's `env` file; empty where there is none or it may not be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def _find(name: str, flags: Mapping[str, Any], environ: Mapping[str, str], toml: Mapping[str, Any],
          file_env: Mapping[str, str], config: str | None) -> tuple[Any, str] | None:
    variable = _variable(name)
    if flags.get(name) is not None:
        return flags[name], _flag(name)
    if environ.get(variable, "") != "":
        return environ[variable], variable
    if environ.get(f"{variable}_FILE", "") != "":
        return _read_secret(environ[f"{variable}_FILE"], f"{variable}_FILE"), f"{variable}_FILE"
    if (word := _word(name)) in toml:
        return toml[word], f"{word} in {config}"
    if variable in file_env:
        return file_env[variable], f"{variable} in the data directory's env file"
    return None


def _parse_flags(kind: type[msgspec.Struct], command: str, argv: Sequence[str], description: str,
                 positional: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog=f"drumbeat {command}", description=description, allow_abbrev=False,
        epilog="Every flag can also be set in the environment (--broker-url is DRUMBEAT_BROKER_URL) or in a TOML file.")
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for field in msgspec.structs.fields(kind):
        text = _meaning(field.type).replace("%", "%%")
        if not field.required and field.default not in (None, msgspec.NODEFAULT, ""):
            text += f" (default: {_shown(field.default)})"
        if field.name in positional:
            parser.add_argument(field.name, nargs=None if field.required else "?", help=text)
        elif _plain(field.type) is bool:
            parser.add_argument(
                _flag(field.name), dest=field.name, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            many = {"action": "append"} if _is_container(field.type) else {}
            parser.add_argument(
                _flag(field.name), dest=field.name, metavar=_metavar(field), help=text, **many)  # type: ignore[arg-type]
    return vars(parser.parse_args(argv))


def _converted(field: Any, raw: Any, source: str) -> Any:
    value = _split(raw) if _is_container(field.type) and isinstance(raw, str | list) else raw
    if _is_mapping(field.type) and isinstance(value, list):
        value = dict(pair.split("=", 1) if "=" in pair else (pair, "") for pair in value)
    try:
        return msgspec.convert(value, field.type, strict=False, dec_hook=_decoded)
    except (msgspec.ValidationError, ValueError) as error:
        shown = "" if _is_secret(field.name) else f" (got {raw!r})"
        wrong = _PLACE.sub("", _lowered(str(error)))
        raise SettingsError(f"{source}: {wrong}{shown}; {_meaning(field.type)}") from None


def _decoded(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise NotImplementedError


def _split(raw: str | list[Any]) -> list[Any]:
    parts = raw if isinstance(raw, list) else [raw]
    return [piece.strip() for part in parts for piece in (_COMMA.split(part) if isinstance(part, str) else [part]) if piece]


def _read_secret(path: str, source: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{source}: cannot read {path}: {error.strerror}") from None


def _read_toml(path: Path, command: str, known: set[str]) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"--config: cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"--config: {path} is not TOML: {error}") from None
    own = document.pop(command, {})
    if not isinstance(own, dict):
        raise SettingsError(f"{path}: [{command}] must be a table")
    for name in own:
        if name not in known:
            raise SettingsError(f"{path}: [{command}] has no setting {name!r}; allowed: {', '.join(sorted(known))}")
    shared = {name: value for name, value in document.items() if name in known}
    return shared | own


def _word(name: str) -> str:
    return name.rstrip("_")


def _flag(name: str) -> str:
    return "--" + _word(name).replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + _word(name).upper()


def _is_secret(name: str) -> bool:
    return bool(re.search(r"token|password|secret|_url$", name))


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(str(item) for item in value) or "none"
    return str(value)


def _metavar(field: Any) -> str:
    return _word(field.name).rsplit("_", 1)[-1].upper() if isinstance(field.name, str) else "VALUE"


def _meaning(annotation: Any) -> str:
    for meta in getattr(annotation, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return ""


def _plain(annotation: Any) -> Any:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _is_container(annotation: Any) -> bool:
    return typing.get_origin(_plain(annotation)) in (tuple, list, dict)


def _is_mapping(annotation: Any) -> bool:
    return typing.get_origin(_plain(annotation)) is dict

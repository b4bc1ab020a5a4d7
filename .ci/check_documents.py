"""Hold the documents to the program: the commands, flags, topics, reasons and links that they name or must name.

`python .ci/check_documents.py`
"""  # noqa: INP001 (a script)

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shared import topics, wire
from shared.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
BUILT_IN_FLAGS = {"help", "config", "version"}

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_COMMAND = re.compile(r"(?<![\w/.-])drumbeat ([a-z]+)([^\n`|]*)")
_TARGET = re.compile(r"(?<![\w/.-])make ([a-z]+)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def read_documents() -> dict[Path, str]:
    """Every Markdown document of the repository that is ours."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md"), *ROOT.glob("tests/*/*.md")]
    return {path: path.read_text() for path in sorted(paths)}


def settings_of(command: str) -> set[str]:
    """The names of all settings of a command: the fields of those structs in its module that say that they are that."""
    if importlib.util.find_spec(COMMANDS[command][0]) is None:
        return set()
    module = importlib.import_module(COMMANDS[command][0])
    kinds = [kind for name, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, msgspec.Struct)
             and (name.endswith("Settings") or (kind.__doc__ or "").startswith("Settings of"))]
    return {field.name.rstrip("_") for kind in kinds for field in msgspec.structs.fields(kind)}


def wrong_commands(path: Path, text: str) -> Iterator[str]:
    """Commands, flags and make targets in code that do not exist."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in _CODE.findall(text):
        for name, rest in _COMMAND.findall(code):
            if name not in COMMANDS:
                yield f"{path}: `drumbeat {name}` is no command"
                continue
            known = settings_of(name) | BUILT_IN_FLAGS
            for flag in re.findall(r"--([a-z][a-z-]+)", rest.partition("#")[0]):
                if flag.removeprefix("no-").replace("-", "_") not in known and flag.replace("-", "_") not in known:
                    yield f"{path}: `drumbeat {name}` has no flag --{flag}"
        yield from (f"{path}: `make {name}` is no target" for name in _TARGET.findall(code) if name not in targets)


def wrong_links(path: Path, text: str) -> Iterator[str]:
    """Relative links to files or headings that do not exist."""
    for link in _LINK.findall(text):
        file, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (path.parent / file).resolve() if file else path
        if not target.exists():
            yield f"{path}: link to {link}, which does not exist"
        elif anchor and anchor not in headings(target.read_text()):
            yield f"{path}: link to {link}, whose heading does not exist"


def headings(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def missing_words(text: str) -> Iterator[str]:
    """Settings, topics and reasons that no document names."""
    for command in COMMANDS:
        if importlib.util.find_spec(COMMANDS[command][0]) is None:
            yield f"drumbeat {command} is listed, but has no module {COMMANDS[command][0]}"
        elif not settings_of(command):
            yield f"drumbeat {command} has no settings that this check could find"
        for name in sorted(settings_of(command)):
            spellings = (f"--{name.replace('_', '-')}", f"`{name}`", f"DRUMBEAT_{name.upper()}")
            if not any(re.search(rf"{re.escape(spelling)}(?![\w-])", text) for spelling in spellings):
                yield f"no document names the setting {spellings[0]} of drumbeat {command}"
    words = {**dict.fromkeys((*topics.UP_KINDS, *topics.DOWN_KINDS), "topic"), **dict.fromkeys(wire.REASONS, "reason")}
    for word, kind in words.items():
        if not re.search(rf"`[^`\n]*\b{re.escape(word)}\b[^`\n]*`", text):
            yield f"no document names the {kind} `{word}`"


def main() -> int:
    """Print what is wrong; 1 where anything is."""
    documents = read_documents()
    wrong = list(missing_words("\n".join(documents.values())))
    for path, text in documents.items():
        wrong += [*wrong_commands(path.relative_to(ROOT), text), *wrong_links(path, text)]
    print("\n".join(wrong) if wrong else f"{len(documents)} documents agree with the program")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

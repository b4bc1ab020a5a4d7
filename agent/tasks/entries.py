"""The form of the tasks file, and what of it could never work or never be safe. Pure."""

import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

MAX_OUTPUT_BYTES = 65_536
SIGNALS = ("TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "KILL", "STOP", "CONT")
NAME = r"^[a-z][a-z0-9_]{0,62}$"
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")

_NEVER_CLEANED = frozenset(("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run",
                            "/sbin", "/srv", "/sys", "/usr", "/var"))
_KERNEL = ("/proc/", "/sys/", "/dev/")

Name = Annotated[str, Meta(pattern=NAME)]
Words = tuple[str, ...]
Seconds = Annotated[float, Meta(gt=0, le=604_800)]


class TasksError(Exception):
    """The tasks file cannot be used; the message says what is wrong with it."""


class Argument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One argument of a task. A string needs a pattern that fits the whole of it; one without a default is required."""

    type: Literal["string", "integer", "enum"]
    pattern: str = ""
    max_length: Annotated[int, Meta(ge=1, le=1024)] = 255
    min: int | None = None
    max: int | None = None
    values: Words = ()
    default: str | int | None = None


class Program(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[task.NAME]`: a program and how it is run. `timeout` and `min_interval` in seconds, `max_output` in bytes."""

    argv: Annotated[Words, Meta(min_length=1)]
    arguments: dict[Name, Argument] = {}
    user: str = ""
    cwd: str = "/"
    env: dict[str, str] = {}
    timeout: Seconds = 3600.0
    max_output: Annotated[int, Meta(ge=0, le=MAX_OUTPUT_BYTES)] = MAX_OUTPUT_BYTES
    min_interval: Annotated[float, Meta(ge=0, le=604_800)] = 0.0
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""


class RestartContainer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[builtin.restart_container]`: restart a container whose name fits one of `containers` (patterns with `*`)."""

    enabled: bool = False
    containers: Words = ()
    timeout: Seconds = 120.0
    min_interval: Annotated[float, Meta(ge=0, le=604_800)] = 0.0


class PruneDocker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[builtin.prune_docker]`: remove dangling images, and containers that stopped `older_than_days` ago."""

    enabled: bool = False
    images: bool = True
    containers: bool = True
    older_than_days: Annotated[int, Meta(ge=1, le=3650)] = 7
    timeout: Seconds = 600.0
    min_interval: Annotated[float, Meta(ge=0, le=604_800)] = 0.0


class SignalProcess(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[builtin.signal_process]`: send one of `signals` to a process whose name fits one of `names` (patterns with `*`)."""

    enabled: bool = False
    names: Words = ()
    signals: tuple[Literal[SIGNALS], ...] = ("TERM", "HUP")  # type: ignore[valid-type]
    timeout: Seconds = 10.0
    min_interval: Annotated[float, Meta(ge=0, le=604_800)] = 0.0


class CleanDirectory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[builtin.clean_directory]`: remove what is older than `older_than_days`, or more, below one of `directories`."""

    enabled: bool = False
    directories: Words = ()
    older_than_days: Annotated[int, Meta(ge=1, le=3650)] = 7
    timeout: Seconds = 600.0
    min_interval: Annotated[float, Meta(ge=0, le=604_800)] = 0.0


BuiltIn = RestartContainer | PruneDocker | SignalProcess | CleanDirectory


class BuiltIns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[builtin.…]`: the built-in tasks, each off unless it is enabled."""

    restart_container: RestartContainer = RestartContainer()
    prune_docker: PruneDocker = PruneDocker()
    signal_process: SignalProcess = SignalProcess()
    clean_directory: CleanDirectory = CleanDirectory()


class TasksFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a host allows."""

    task: dict[Name, Program] = {}
    builtin: BuiltIns = BuiltIns()

    def find(self, name: str) -> Program | BuiltIn | None:
        """The task of this name; None where it is not allowed."""
        if name in BuiltIns.__struct_fields__:
            found: BuiltIn = getattr(self.builtin, name)
            return found if found.enabled else None
        return self.task.get(name)


def read_entries(document: Mapping[str, Any]) -> TasksFile:
    """The tasks file from plain data. Raises TasksError, which names the place."""
    try:
        file = msgspec.convert(document, TasksFile)
    except msgspec.ValidationError as error:
        raise TasksError(str(error)) from None
    for problem in _problems(file):
        raise TasksError(problem)
    return file


def _problems(file: TasksFile) -> Iterator[str]:
    for name, program in file.task.items():
        place = f"[task.{name}]"
        if name in BuiltIns.__struct_fields__:
            yield f"{place}: this is the name of a built-in task; give another one"
        yield from (f"{place} {problem}" for problem in _program_problems(program))
    for name, needed in (("restart_container", "containers"), ("signal_process", "names"), ("clean_directory", "directories")):
        entry = getattr(file.builtin, name)
        if entry.enabled and not getattr(entry, needed):
            yield f"[builtin.{name}] is enabled, but {needed} is empty"
    for directory in file.builtin.clean_directory.directories:
        if not _is_cleanable(directory):
            yield f"[builtin.clean_directory] directories: {directory!r} is never cleaned; name a directory of its own, absolute"


def _program_problems(program: Program) -> Iterator[str]:
    if not program.argv[0].startswith("/") or PLACEHOLDER.search(program.argv[0]):
        yield "argv: the program must be an absolute path without an argument in it"
    if not program.cwd.startswith("/"):
        yield "cwd: must be an absolute path"
    if any("\0" in text for text in (*program.argv, *program.env, *program.env.values(), program.cwd)):
        yield "argv, env, cwd: NUL is not allowed"
    named = {name for element in program.argv for name in PLACEHOLDER.findall(element)}
    for name in sorted(named ^ set(program.arguments)):
        yield f"argv: {{{name}}} is no argument" if name in named else f"arguments.{name}: argv uses it nowhere"
    for name, argument in program.arguments.items():
        yield from (f"arguments.{name}: {problem}" for problem in _argument_problems(argument))


def _argument_problems(argument: Argument) -> Iterator[str]:
    if argument.type == "string":
        try:
            re.compile(argument.pattern)
        except re.error as error:
            yield f"pattern: {error}"
        if not argument.pattern:
            yield "a string needs a pattern, such as [a-z]+"
    if argument.type == "enum" and not argument.values:
        yield "an enum needs values"
    if argument.min is not None and argument.max is not None and argument.min > argument.max:
        yield "min is greater than max"


def _is_cleanable(directory: str) -> bool:
    path = PurePosixPath(directory)
    return (path.is_absolute() and ".." not in path.parts and str(path) == directory and str(path) not in _NEVER_CLEANED
            and not directory.startswith(_KERNEL))


def number_of(name: str) -> signal.Signals:
    """`TERM` → SIGTERM."""
    return signal.Signals[f"SIG{name}"]

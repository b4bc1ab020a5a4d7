"""Commands with verbs, as `drumbeat silence add`: which verb was asked for."""

import sys
from collections.abc import Collection, Sequence


def read_verb(command: str, argv: Sequence[str], verbs: Collection[str], usage: str) -> str | int:
    """The verb that stands first in `argv`; where none of the command's does, the exit status, with `usage` printed."""
    verb = argv[0] if argv else ""
    if verb in ("-h", "--help", "help"):
        print(usage)
        return 0
    if verb not in verbs:
        wrong = f"unknown verb {verb!r}" if verb else "a verb is missing"
        print(f"drumbeat {command}: {wrong}\n\n{usage}", file=sys.stderr)
        return 2
    return verb

"""Users and groups from /etc/passwd and /etc/group; no directory server is asked, since it may hang."""

import dataclasses

from agent.collectors import procfs


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """A user as the kernel knows it."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def read_account(name: str, root: str = "/") -> Account | None:
    """The account of this name; None where /etc/passwd has none."""
    rows = (line.split(":") for line in procfs.read_text(f"{root}/etc/passwd").splitlines())
    found = next((row for row in rows if len(row) > 3 and row[0] == name), None)
    if found is None or not (found[2] + found[3]).isdigit():
        return None
    gid = int(found[3])
    lines = (line.split(":") for line in procfs.read_text(f"{root}/etc/group").splitlines())
    groups = {int(line[2]) for line in lines if len(line) > 3 and line[2].isdigit() and name in line[3].split(",")}
    return Account(int(found[2]), gid, tuple(sorted(groups | {gid})))

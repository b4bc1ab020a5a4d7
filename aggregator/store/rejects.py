"""What was refused: bounded, with the reason."""

import dataclasses
import hashlib
from collections.abc import Sequence
from datetime import datetime

from aggregator.store.samples import Cursor
from shared.database import Connection

MAX_ROWS = 100_000
HEAD_BYTES = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """One refused message. `epoch` and `seq` where it said them: its place in the stream is passed."""

    host: str
    topic: str
    reason: str
    detail: str
    payload: bytes
    epoch: int | None = None
    seq: int | None = None


def write(cursor: Cursor, rejects: Sequence[Reject], received_at: datetime) -> None:
    """Keep the refused messages: the first 2 KB, or all of one whose version is not spoken here, for replay."""
    with cursor.copy("COPY reject (received_at, host, topic, reason, detail, size, sha256, payload, epoch, seq) "
                     "FROM STDIN") as copy:
        for reject in rejects:
            head = reject.payload if reject.reason == "version" else reject.payload[:HEAD_BYTES]
            copy.write_row((received_at, _text(reject.host), _text(reject.topic), reject.reason, _text(reject.detail),
                            len(reject.payload), hashlib.sha256(reject.payload).digest(), head, reject.epoch, reject.seq))


def trim(cursor: Cursor) -> int:
    """Keep the newest MAX_ROWS; how many were deleted."""
    return cursor.execute("DELETE FROM reject WHERE id <= (SELECT max(id) FROM reject) - %s", [MAX_ROWS]).rowcount


def delete_old(connection: Connection, days: int, limit: int) -> int:
    """Delete up to `limit` that are older than so many days; how many that were."""
    return connection.execute(
        """DELETE FROM reject WHERE id IN (SELECT id FROM reject WHERE received_at < now() - make_interval(days => %s)
                                           LIMIT %s)""", [days, limit]).rowcount


def _text(text: str) -> str:
    return text.replace("\0", "\\0").encode(errors="replace").decode()[:1024]

"""What must still be published: written with the change that it tells of, taken away once the broker has it."""

import dataclasses
from collections.abc import Sequence

import msgspec

from shared.database import Connection

CLAIM_SECONDS = 10.0
"""Whoever wrote or took up a message has so long to publish it before another may."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One message on its way. `fires`: the execution that begins with it, empty where it tells something else."""

    topic: str
    payload: bytes
    fires: str = ""
    id: int = 0


def write(connection: Connection, messages: Sequence[Message]) -> list[Message]:
    """Keep messages until they are published; the same with their ids."""
    if not messages:
        return []
    rows = [{"place": place, "topic": one.topic, "payload": msgspec.Raw(one.payload), "fires": one.fires}
            for place, one in enumerate(messages)]
    written = connection.execute(
        """INSERT INTO schedule_outbox (topic, payload, execution_id, claimed_until)
           SELECT topic, payload, nullif(fires, ''), now() + make_interval(secs => %s)
           FROM jsonb_to_recordset(%s::jsonb) AS n (place int, topic text, payload jsonb, fires text) ORDER BY place
           RETURNING id""", [CLAIM_SECONDS, msgspec.json.encode(rows).decode()])
    return [dataclasses.replace(one, id=number) for one, (number,) in zip(messages, written, strict=True)]


def take_over(connection: Connection, most: int) -> list[Message]:
    """Messages that whoever had them in hand has not published: now they are ours for a while."""
    return [Message(topic, payload.encode(), fires, number) for number, topic, payload, fires in connection.execute(
        """UPDATE schedule_outbox SET claimed_until = now() + make_interval(secs => %s) WHERE id IN (
             SELECT id FROM schedule_outbox WHERE claimed_until <= now() ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
           RETURNING id, topic, payload::text, coalesce(execution_id, '')""", [CLAIM_SECONDS, most])]


def give_back(connection: Connection, ids: Sequence[int]) -> None:
    """These could not be published: whoever can may take them."""
    connection.execute("UPDATE schedule_outbox SET claimed_until = now() WHERE id = ANY (%s)", [list(ids)])


def confirm(connection: Connection, ids: Sequence[int]) -> None:
    """The broker has these. An execution that began with one of them runs, or is completed where nobody reports its end."""
    connection.execute(
        """WITH gone AS (DELETE FROM schedule_outbox WHERE id = ANY (%s) RETURNING execution_id)
           UPDATE execution e SET started_at = now(), reason = '', is_late = (e.state = 'missed'),
             state = CASE e.target->>'wait' WHEN 'true' THEN 'running' ELSE 'completed' END,
             ended_at = CASE e.target->>'wait' WHEN 'true' THEN NULL ELSE now() END
           FROM gone WHERE e.id = gone.execution_id AND e.state IN ('pending', 'missed')""", [list(ids)])

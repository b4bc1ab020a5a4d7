"""What goes out on the bus: messages of the outbox at QoS 1, at least once each; tasks and answers to agents at QoS 0."""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from scheduler.store.outbox import Message
from scheduler.store.runs import Run
from shared import wire
from shared.bus import Client
from shared.topics import Topics


class Teller:
    """Publishes, and remembers what the broker has not confirmed.

    What a lost connection takes along is sent again from the table once its claim has run out.
    """

    def __init__(self, client: Client, topics: Topics) -> None:
        self._client, self._topics = client, topics
        self._connections = 0
        self._waiting: deque[tuple[int, int]] = deque()

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    @property
    def waiting(self) -> int:
        """How many messages the broker has not confirmed."""
        return len(self._waiting)

    def send(self, messages: Iterable[Message]) -> list[int]:
        """Publish messages of the outbox; the ids of those that could not be."""
        self._forget_lost()
        unsent = []
        for message in messages:
            if self._client.publish(message.topic, message.payload, qos=1):
                self._waiting.append((self._client.handed, message.id))
            else:
                unsent.append(message.id)
        return unsent

    def take_confirmed(self) -> list[int]:
        """Ids of the messages that the broker has."""
        self._forget_lost()
        confirmed = []
        while self._waiting and self._waiting[0][0] <= self._client.confirmed:
            confirmed.append(self._waiting.popleft()[1])
        return confirmed

    def tasks(self, runs: Sequence[Run]) -> int:
        """Send tasks to their hosts; how many went out."""
        return self._client.publish_all([(self._topics.down(run.host, "task"), task(run)) for run in runs])

    def answer(self, answers: Iterable[tuple[str, str, str]]) -> int:
        """Tell agents (host, execution) to `cancel` or that they may forget (`acknowledge`)."""
        return self._client.publish_all([
            (self._topics.down(host, "task"), wire.encode(wire.Task(action=action, execution=execution)))  # type: ignore[arg-type]
            for host, execution, action in answers])

    def _forget_lost(self) -> None:
        if self._connections != self._client.connections or not self._client.is_connected:
            self._connections = self._client.connections
            self._waiting.clear()


def fire(run: Run, topics: Topics) -> Message:
    """The message with which an execution on the bus begins."""
    target = msgspec.to_builtins(run.target)
    message = wire.Fire(
        execution=run.id, schedule=run.name, scheduled_at=run.scheduled_for.timestamp(), fired_at=run.at.timestamp(),
        attempt=run.attempt, cause=run.cause, target=target, payload=run.payload)
    return Message(topics.fire(run.name), wire.encode(message), run.id)


def task(run: Run) -> bytes:
    """What an agent is told to run."""
    target = run.target
    return wire.encode(wire.Task(
        action="run", execution=run.id, task=target.task, arguments=target.arguments, attempt=run.attempt,
        timeout=run.schedule.timeout, not_after=run.not_after.timestamp()))

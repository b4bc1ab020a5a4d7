"""Keeping the embedded broker's users in step, with a program that dies of SIGHUP in the broker's place."""

import threading
from pathlib import Path

import pytest

from compose import broker_files, membership
from compose.output import Terminal
from compose.programs import Program
from compose.supervisor import Supervisor

NOBODY = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def supervisor(tmp_path):
    (tmp_path / "logs").mkdir()
    found = Supervisor(tmp_path / "logs", Terminal(50))
    found.start(Program("broker", ["/bin/sleep", "60"]))
    yield found
    found.stop(("broker",), lambda: True)


def test_a_disk_that_refuses_the_users_stops_nothing(tmp_path: Path, supervisor: Supervisor):
    """Users that cannot be written now are written later, and the broker is told only then."""
    stopping = threading.Event()
    stopping.set()
    keeper = membership.Keeper(membership.Door(tmp_path, [], "drumbeat/v1"), NOBODY, supervisor, stopping)
    broker = supervisor.children["broker"]
    keeper._wanted = {"web-1": "$2b$04$verifier"}
    keeper.tick(broker.started + 10)  # there is no directory to write into
    assert broker.is_alive
    (tmp_path / "nats").mkdir()
    keeper.tick(broker.started + 10 + membership.SPOILT_SECONDS)
    assert '"web-1"' in (tmp_path / "nats" / broker_files.NATS_FILE).read_text()
    assert broker.process is not None
    assert broker.process.wait(5) == -1  # of SIGHUP

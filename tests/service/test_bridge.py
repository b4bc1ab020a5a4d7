"""Sites: agents on a Mosquitto of their own, whose bridge passes on what they say to the fleet's broker."""

import os
import time
from pathlib import Path

import pytest
from access_rig import COMPOSE, MOSQUITTO, Fleet
from ingest_rig import Agent, Clock, Ingest

from compose import nats, programs
from shared.topics import DEFAULT_ROOT, Topics

pytestmark = [pytest.mark.mosquitto, pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="Mosquitto is not installed")]
TOPICS = Topics()


@pytest.fixture(params=["nats", "mosquitto"])
def centre(request, tmp_path, database_url):
    """The fleet's broker, as it is shipped, with a user for the bridge."""
    made = Fleet(request.param, tmp_path, database_url)
    made.write()
    return made


@pytest.fixture
def site(centre, data_directory):
    """The URL of the site's broker, whose bridge is the shipped one but for its address, password and TLS."""
    port = programs.free_port()
    text = (COMPOSE / "mosquitto-bridge.conf").read_text().replace("broker.example:8883", f"127.0.0.1:{centre.port}")
    text = text.replace("change-me", centre.words["ber"]).replace("bridge_cafile", "# bridge_cafile")
    text = text.replace("restart_timeout 2 30", "restart_timeout 1 1")
    file = data_directory / "site.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{'user root' if os.geteuid() == 0 else ''}\n{text}")
    program = programs.Program("mosquitto", [MOSQUITTO, "-c", str(file)], dict(os.environ))
    process = programs.spawn(program)
    url = nats.url(port, "site", "x")
    assert nats.wait_until_ready(url, lambda: process.poll() is None, 10)
    yield url
    programs.stop(process, program)


def test_a_site_is_part_of_the_fleet(centre, site, database_url, rows):
    """Samples of a site's agent are stored and confirmed through the bridge, again after the centre's broker was away; what only
    the centre may say does not pass."""
    ingest = Ingest(centre.url("ingest"), database_url, DEFAULT_ROOT, Clock())
    with centre.running():
        ingest()
        agent = Agent(site, DEFAULT_ROOT, "ber-1")
        agent.poll(lambda: _confirmed(agent), 20)
        agent.raw(b'{"forged": true}', topic=TOPICS.health("ber-1"))
        agent.raw(b'{"forged": true}', topic=TOPICS.down("web-1", "task"))
    with centre.running():
        before = len(agent.watermarks)
        agent.seq += 1
        agent.poll(lambda: _confirmed(agent) and len(agent.watermarks) > before and agent.seq in agent.watermarks[before:], 30)
        agent.client.close()
        ingest.close()
    assert rows("SELECT count(*), count(DISTINCT seq), max(seq) FROM sample")[0][1:] == (2, 2)
    assert rows("SELECT count(*) FROM reject") == [(0,)]


def _confirmed(agent):
    """Whether the newest sample is confirmed; it is sent again twice a second until then."""
    agent.seq = max(agent.seq, 1)
    if agent.seq in agent.watermarks:
        return True
    now = time.monotonic()
    if now - getattr(agent, "sent_at", 0.0) > 0.5:
        agent.sent_at = now
        agent.sample(seq=agent.seq)
        agent.hello(newest=agent.seq)
    return False

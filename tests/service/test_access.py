"""What the rules that `drumbeat acl` writes let each credential do, on a real NATS and a real Mosquitto as they are shipped."""

import json
import secrets
from pathlib import Path

import broker_rules
import pytest
from access_rig import MOSQUITTO, Fleet
from broker_rules import HEARS, SAYS, TOPICS, Spy

from compose import doctor
from shared import database

AGENT = "web-1"


@pytest.fixture(scope="module", params=["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def fleet(request, tmp_path_factory, admin_database_url, template_database):
    """Each broker with the rules of `drumbeat acl`, and a table that has two agents."""
    if request.param == "mosquitto" and not Path(MOSQUITTO).exists():
        pytest.skip("Mosquitto is not installed")
    name = f"test_{secrets.token_hex(6)}"
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        made = Fleet(request.param, tmp_path_factory.mktemp("broker"), f"{admin_database_url.rpartition('/')[0]}/{name}")
        made.issue("web-1", "db-1")
        made.write()
        with made.running():
            yield made
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def urls(fleet):
    return {name: fleet.url(name) for name in fleet.words}


@pytest.mark.parametrize("user", SAYS)
def test_nobody_says_more_than_granted(urls, user, eventually):
    """Every user publishes to every topic; exactly what it is for arrives."""
    broker_rules.check_said(urls, user, eventually)


@pytest.mark.parametrize("user", HEARS)
def test_nobody_hears_more_than_granted(urls, user, eventually):
    """Every user subscribes to every topic and to all wildcards; exactly what it is for arrives."""
    broker_rules.check_heard(urls, user, eventually)


def test_an_agent_hears_no_more_at_qos_1(urls, eventually):
    """Subscriptions at QoS 1 go other ways inside NATS; an agent hears nothing by them that is not its own."""
    with Spy(urls["witness"], "#") as witness, Spy(urls[AGENT], *broker_rules.EVERY, *broker_rules.FILTERS, qos=1) as agent:
        witness.say(broker_rules.EVERY)
        eventually(lambda: set(witness.heard) == set(broker_rules.EVERY), 5)
        agent.say(broker_rules.ELSEWHERE[:1])
    assert set(agent.heard) <= set(HEARS[AGENT])


def test_retained_state_is_neither_written_nor_read_for_others(urls, eventually):
    """What an agent retains in another's name is not kept, nor can it clear or read what another has retained."""
    own, other = TOPICS.up(AGENT, "status"), TOPICS.up("db-1", "status")
    with Spy(urls["db-1"]) as owner, Spy(urls[AGENT]) as agent:
        owner.say([other], b"mine", retain=True)
        forged = [other, TOPICS.down("db-1", "config"), TOPICS.health("db-1"), TOPICS.alert("db-1", "x")]
        agent.say(forged, b"forged", retain=True)
        agent.say([other], b"", retain=True)
        agent.say([own], b"mine", retain=True)
    with Spy(urls["witness"], "#") as late, Spy(urls[AGENT], other, f"{TOPICS.root}/agent/+/+/up/+", "#") as nosy:
        eventually(lambda: len(late.retained) == 2, 5)
        late.say(["other/topic"])
        nosy.say([own], b"", retain=True)
        assert sorted(late.retained) == sorted([own, other])
        assert nosy.retained == []
        late.say([other], b"", retain=True)


def test_a_last_will_speaks_for_its_own_host_alone(urls, eventually):
    """The will of an agent on another's topic is never published, or its connection refused; on its own topic it is."""
    other, own = TOPICS.up("db-1", "status"), TOPICS.up(AGENT, "status")
    with Spy(urls["witness"], "#") as witness:
        for topic in (other, TOPICS.down(AGENT, "config"), TOPICS.alert("db-1", "x"), own):
            with Spy(urls[AGENT], will=topic) as mortal:
                mortal.vanish()
        eventually(lambda: own in witness.heard, 5)
        assert witness.heard == [own]
        witness.say([own], b"", retain=True)


def test_the_brokers_own_topics_are_closed(fleet, urls, eventually):
    """An agent can neither purge the stores of NATS nor hear the broker's statistics."""
    status = TOPICS.up("db-1", "status")
    with Spy(urls["db-1"]) as owner, Spy(urls[AGENT]) as agent:
        owner.say([status], b"mine", retain=True)
        for stream in ("$MQTT_rmsgs", "$MQTT_msgs", "$MQTT_sess"):
            agent.say([f"$JS/API/STREAM/{word}/{stream}" for word in ("PURGE", "DELETE")], b"")
        agent.say(["$SYS/broker/version", "$SYS/REQ/SERVER/PING", "$MQTT/sub/x", "$MQTT/JSA/x"], b"{}")
    with Spy(urls["witness"], status) as late:
        eventually(lambda: late.retained == [status], 5)
        late.say([status], b"", retain=True)


@pytest.mark.parametrize("clean", [True, False])
def test_a_stolen_client_id_gains_nothing(urls, eventually, clean):
    """An agent that connects with ingest's client id hears nothing of it, and ingest comes back and hears what is new."""
    client_id, sample = f"ingest-{secrets.token_hex(16)}", TOPICS.up("db-1", "sample")
    with Spy(urls["ingest"], f"{TOPICS.root}/agent/+/+/up/+", client_id=client_id) as ingest, Spy(urls["db-1"]) as owner:
        with Spy(urls[AGENT], client_id=client_id, clean=clean) as thief:
            owner.say([sample])
            thief.vanish()
        assert thief.heard == []
        eventually(lambda: ingest.is_connected, 10)

        def is_heard():
            owner.say([sample])
            return sample in ingest.heard

        eventually(is_heard, 10)


def test_passwords_count(fleet):
    """A wrong password, another's password and no password are refused."""
    for user, word in (("web-1", "wrong"), ("web-1", fleet.words["db-1"]), ("service.ingest", fleet.words["web-1"]),
                       ("nobody", "x"), ("web-1", "")):
        with Spy(f"mqtt://{user}:{word}@127.0.0.1:{fleet.port}") as stranger:
            assert stranger.refusal
            assert not stranger.is_connected


def test_the_doctor_does_not_ask_for_more_rights_for_an_agent(urls, tmp_path, capsys):
    """On an agent's machine it sees that the credential is good, and gives no advice that would open others' topics to it."""
    environ = {"DRUMBEAT_DATA": str(tmp_path)}
    assert doctor.main(["--json"], environ | {"DRUMBEAT_BROKER_URL": urls[AGENT], "DRUMBEAT_HOST": AGENT}) == 0
    found = {one["check"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert (found["broker"]["level"], found["broker rights"]["level"]) == ("ok", "unknown")
    assert "grant" not in found["broker rights"]["mend"]
    assert doctor.main(["--json"], environ | {"DRUMBEAT_BROKER_URL": urls["backup"]}) == 1, "a program with too few rights"
    assert "grant this user" in capsys.readouterr().out

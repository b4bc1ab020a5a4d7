"""What is asked for over REST, done by a scheduler: on the bus, on a host, cancelled."""

import json

import api_client
import builders
import pytest
from ingest_rig import Listener
from scheduler_rig import Agent, Schedulers

from shared.topics import Topics


@pytest.fixture
def rest(database_url):
    with api_client.serving(database_url) as (api, _):
        yield api


@pytest.fixture
def scheduler(broker, database_url, topic_root):
    made = Schedulers(broker.url, database_url, topic_root)
    made()
    yield made
    made.close()


@pytest.fixture
def agent(broker, topic_root):
    made = Agent(broker.url, topic_root)
    yield made
    made.client.close()


def test_a_run_by_hand_is_said_on_the_bus(rest, scheduler, broker, topic_root, eventually):
    """A paused schedule fires when it is started, with the payload of whoever started it, and its history says who."""
    listener = Listener(broker.url, [Topics(topic_root).fire("+")])
    plain = {"name": "lights", "kind": "cron", "cron": "@yearly", "enabled": False, "target": {"type": "bus"}}
    assert rest.ask("/api/v1/schedules", "POST", json=plain).status_code == 201
    number = rest.ask("/api/v1/schedules/lights/executions", "POST", json={"payload": {"scene": "night"}}).json()["id"]
    listener.poll(lambda: listener.heard)
    listener.client.close()
    told = json.loads(listener.heard[0][1])
    assert (told["execution"], told["cause"], told["payload"]) == (number, "manual", {"scene": "night"})
    eventually(lambda: rest.get(f"/executions/{number}")["events"])
    shown = rest.get(f"/executions/{number}")
    assert (shown["state"], shown["actor"]) == ("completed", "tests")
    assert [event["state"] for event in shown["events"]] == ["completed"]


def test_a_restart_is_a_task_that_the_agent_answers(rest, scheduler, agent, eventually):
    """It reaches the one host that was named, with the container; what the agent answers is the end, and is acknowledged."""
    for name in ("web-1", "web-2"):
        builders.store_host(rest.connection, name)
    number = rest.ask("/api/v1/hosts/web-1/containers/shop/restarts", "POST").json()["id"]
    task = agent.await_task()
    assert (task["execution"], task["task"], task["arguments"]) == (number, "restart_container", {"container": "shop"})
    agent.say(number, "rejected", reason="arguments.container: not allowed")
    assert agent.await_task("acknowledge")["execution"] == number
    eventually(lambda: rest.get(f"/executions/{number}")["events"])
    shown = rest.get(f"/executions/{number}")
    assert (shown["state"], shown["host"], shown["reason"]) == (
        "failed", "web-1", "rejected by the agent: arguments.container: not allowed")


def test_what_runs_on_hosts_is_cancelled_over_rest(rest, scheduler, agent, eventually):
    """Cancelling the whole stops each host; the whole is cancelled when its hosts are."""
    builders.store_host(rest.connection, "web-1")
    target = {"type": "task", "task": "prune_docker", "hosts": ["*"]}
    assert rest.ask("/api/v1/schedules", "POST", json={"name": "prune", "kind": "manual", "target": target}).status_code == 201
    whole = rest.ask("/api/v1/schedules/prune/executions", "POST").json()["id"]
    own = agent.await_task()["execution"]
    agent.say(own, "running")
    eventually(lambda: rest.get(f"/executions/{whole}")["progress"] == {"total": 1, "ended": 0, "states": {"running": 1}})
    assert rest.ask(f"/api/v1/executions/{whole}/cancellation", "PUT").json()["is_cancelling"]
    assert agent.await_task("cancel")["execution"] == own
    agent.say(own, "cancelled")
    eventually(lambda: rest.get(f"/executions/{whole}")["state"] == "cancelled")
    assert [row["state"] for row in rest.get("/executions", parent=whole)["executions"]] == ["cancelled"]

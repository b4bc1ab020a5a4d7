"""Who may join, over REST on a real Postgres: enrolment tokens, enrolment, credentials."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import api_client
import bcrypt
import httpx
import pytest
from api_client import Api
from builders import NOW

from aggregator.api.backend import Backend
from aggregator.api.broker_for_agents import BrokerForAgents
from aggregator.store import tokens
from shared import database

LATER = (NOW + timedelta(days=1)).isoformat()
BROKER = BrokerForAgents("mqtts://broker.example:8883", "-----BEGIN CERTIFICATE-----\n", "fleet/v1", ("center",))


@pytest.fixture(scope="module")
def api_server(admin_database_url: str, template_database: str) -> Iterator[Api]:
    """An API that knows which broker agents should use."""
    name = f"test_{secrets.token_hex(6)}"
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")  # type: ignore[arg-type]
        with api_client.serving(f"{admin_database_url.rpartition('/')[0]}/{name}", broker_for_agents=BROKER) as (api, _):
            yield api
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def made(api: Api, name: str = "web", **terms: Any) -> str:
    answer = api.ask("/api/v1/enrolment-tokens", "POST", json={"name": name, **terms})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def enrol(api: Api, token: str, host: str = "web-1", **body: Any) -> httpx.Response:
    return api.ask("/api/v1/enrolments", "POST", token=token, json={"host": host, **body})


def version(api: Api) -> int:
    row = api.connection.execute("SELECT version FROM configuration WHERE name = 'credentials'").fetchone()
    assert row is not None
    return int(row[0])


def test_a_machine_joins(api: Api) -> None:
    """It is told all that its agent needs; the table has verifiers of the password, whoever keeps brokers in step is told."""
    before = version(api)
    answer = enrol(api, made(api, labels={"role": "web"}), labels={"rack": "b7", "role": "root"})
    assert answer.status_code == 201
    told = answer.json()
    password = told.pop("password")
    assert told == {"host": "web-1", "username": "web-1", "broker_url": BROKER.url, "ca_certificate": BROKER.ca_certificate,
                    "topic_root": "fleet/v1", "labels": {"rack": "b7", "role": "web"}}, "the token's labels win"
    (row,) = api.connection.execute("SELECT bcrypt, pbkdf2, labels, issued_by, revoked_at FROM agent_credential").fetchall()
    assert bcrypt.checkpw(password.encode(), row[0].encode())
    assert row[1].startswith("$7$101$")
    assert row[2:] == (told["labels"], "enrolment token web", None)
    assert version(api) == before + 1
    noted = api.connection.execute("SELECT actor, action, kind, object, detail::text FROM audit_log ORDER BY id").fetchall()
    assert [entry[:4] for entry in noted] == [("tests", "create", "enrolment token", "web"),
                                              ("enrolment token web", "issue", "credential", "web-1")]
    assert password not in str(noted)
    assert api.get("/enrolment-tokens")["enrolment_tokens"][0]["uses"] == 1


def test_the_token_is_shown_once(api: Api) -> None:
    """Only its SHA-256 is stored; lists and the audit log have the name alone."""
    plain = made(api)
    assert plain.startswith("dbe_")
    assert len(plain) >= 47, "256 bits"
    assert api.connection.execute("SELECT digest FROM enrolment_token").fetchone() == (tokens.digest(plain),)
    assert plain not in api.ask("/api/v1/enrolment-tokens").text + api.ask("/api/v1/audit-log").text
    assert api.ask("/api/v1/enrolment-tokens", "POST", json={"name": "web"}).status_code == 409


@pytest.mark.parametrize("host", [
    "+", "#", "a/b", "*", ">", "..", "%u", "", " ", "web 1", "a.b", "service.ingest", "x" * 200, "x" * 64, "Ünicode", "web-é",
    "Web-1", "-web", "_web", "web-1\n", "web\0", "$SYS", "web-1;", "\ud800"])
def test_names_that_no_host_may_have(api: Api, host: str) -> None:
    """A name that means something in a topic, a subject or an access rule is refused by field, and uses nothing up."""
    answer = enrol(api, made(api, max_uses=1), host) if host.isascii() or host.isprintable() else api.ask(
        "/api/v1/enrolments", "POST", token=made(api, max_uses=1), content=b'{"host":"\\ud800"}',
        headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "host"
    assert api.get("/enrolment-tokens")["enrolment_tokens"][0]["uses"] == 0
    assert api.connection.execute("SELECT host FROM agent_credential").fetchall() == []


@pytest.mark.parametrize("labels", [
    {"role": "a,b"}, {"role": "a}b"}, {"role": "a\nDRUMBEAT_TASKS_FILE=/tmp/x"}, {"role": "a\u2028b"}, {"role": " a"}, {"": "a"},
    {"a b": "c"}, {"role": "x" * 201}, {f"l{at}": "x" for at in range(33)}])
def test_labels_that_would_not_survive_a_line_of_a_file(api: Api, labels: dict[str, str]) -> None:
    """Labels end up in a list on one line of the agent's env file; what would break out is refused by field."""
    answer = enrol(api, made(api), labels=labels)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith("labels")
    assert api.ask("/api/v1/enrolment-tokens", "POST", json={"name": "other", "labels": labels}).status_code == 422


@pytest.mark.parametrize(("terms", "change", "said"), [
    ({"max_uses": 1}, "UPDATE enrolment_token SET uses = 1", "used up"),
    ({"expires_at": LATER}, f"UPDATE enrolment_token SET expires_at = '{NOW.isoformat()}'", "expired"),
    ({}, "UPDATE enrolment_token SET revoked_at = now()", "revoked")])
def test_a_token_that_is_over_says_why(api: Api, terms: dict[str, Any], change: str, said: str) -> None:
    """Who knows the token hears why it is refused; who does not hears that it is unknown, and no more."""
    plain = made(api, **terms)
    api.connection.execute(change)  # type: ignore[arg-type]
    answer = enrol(api, plain)
    assert (answer.status_code, said in answer.json()["detail"]) == (401, True), answer.text
    assert answer.headers["www-authenticate"].startswith("Bearer")
    guessed = enrol(api, plain[:-1] + ("a" if plain[-1] != "a" else "b"))
    assert (guessed.status_code, guessed.json()["detail"]) == (401, "this enrolment token is unknown")


def test_each_kind_of_token_is_good_for_its_own(api: Api) -> None:
    """A token of the API enrols nobody, however mighty; an enrolment token reads and changes nothing."""
    plain = made(api)
    refused = enrol(api, api.token)
    assert refused.status_code == 401
    assert "drumbeat enrolment create" in refused.json()["detail"]
    assert enrol(api, "").status_code == 401
    for path, method in (("/hosts", "GET"), ("/enrolment-tokens", "GET"), ("/credentials", "POST"), ("/tokens", "POST")):
        answer = api.ask(f"/api/v1{path}", method, token=plain, json={"name": "x", "host": "web-1"} if method == "POST" else None)
        assert answer.status_code == 401, path
    assert "enrolment token" in answer.json()["detail"]


def test_the_last_use_is_had_once(api: Api) -> None:
    """Of many machines that show the token at once, as many join as it has uses; the others have no credential."""
    plain = made(api, max_uses=3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda at: enrol(api, plain, f"web-{at}").status_code, range(8)))
    assert sorted(answers) == [201] * 3 + [401] * 5
    assert api.connection.execute("SELECT count(*) FROM agent_credential").fetchone() == (3,)


def test_a_host_is_not_taken_over(api: Api) -> None:
    """A host with a valid credential keeps it, and the use is not counted; with a token that replaces the old one ends."""
    plain, mighty = made(api), made(api, "again", replaces=True)
    first = enrol(api, plain).json()["password"]
    before = version(api)
    answer = enrol(api, plain)
    assert answer.status_code == 409
    assert "drumbeat credential revoke web-1" in answer.json()["detail"]
    assert version(api) == before
    assert {one["name"]: one["uses"] for one in api.get("/enrolment-tokens")["enrolment_tokens"]} == {"web": 1, "again": 0}
    second = enrol(api, mighty).json()["password"]
    (verifier,) = api.connection.execute("SELECT bcrypt FROM agent_credential").fetchone() or ("",)
    assert [bcrypt.checkpw(word.encode(), verifier.encode()) for word in (first, second)] == [False, True]


def test_a_token_is_for_its_hosts(api: Api) -> None:
    """A name outside the token's pattern is refused, naming the pattern."""
    plain = made(api, hosts="web-*")
    answer = enrol(api, plain, "db-1")
    assert answer.status_code == 403
    assert "web-*" in answer.json()["detail"]
    assert enrol(api, plain, "web-7").status_code == 201


def test_a_name_that_the_broker_has_otherwise(api: Api) -> None:
    """A host whose password is set by hand, as that of `drumbeat up`'s own agent, is refused: the credential would be none."""
    for answer in (enrol(api, made(api), "center"), api.ask("/api/v1/credentials", "POST", json={"host": "center"})):
        assert answer.status_code == 409
        assert "choose another name" in answer.json()["detail"]
    assert api.get("/credentials")["credentials"] == []
    assert api.get("/enrolment-tokens")["enrolment_tokens"][0]["uses"] == 0


def test_revoking_a_credential(api: Api) -> None:
    """Revoked, it is told to whoever keeps brokers in step, and shown as revoked; the host may join again with a token."""
    plain = made(api)
    enrol(api, plain)
    before = version(api)
    assert api.ask("/api/v1/credentials/web-1", "DELETE").status_code == 204
    assert version(api) == before + 1
    assert api.ask("/api/v1/credentials/web-1", "DELETE").status_code == 404
    assert api.ask("/api/v1/credentials/a.b", "DELETE").status_code == 404
    (shown,) = api.get("/credentials")["credentials"]
    assert (shown["state"], shown["enrolment_token"]) == ("revoked", "web")
    assert api.get("/credentials", state="valid")["credentials"] == []
    assert enrol(api, plain).status_code == 201
    assert api.get("/credentials", state="valid")["credentials"][0]["revoked_at"] is None


def test_revoking_a_token_leaves_credentials(api: Api) -> None:
    """Who has joined stays; nobody else joins."""
    plain = made(api)
    enrol(api, plain)
    assert api.ask("/api/v1/enrolment-tokens/web", "DELETE").status_code == 204
    assert api.ask("/api/v1/enrolment-tokens/web", "DELETE").status_code == 404
    assert enrol(api, plain, "web-2").status_code == 401
    assert [one["state"] for one in api.get("/credentials")["credentials"]] == ["valid"]
    assert api.get("/enrolment-tokens")["enrolment_tokens"][0]["state"] == "revoked"


def test_deleting_a_host_leaves_its_credential(api: Api) -> None:
    """History and identity are two things: who wants to be rid of a machine revokes its credential."""
    enrol(api, made(api))
    api.connection.execute("INSERT INTO host (name, partition) VALUES ('web-1', 0)")
    assert api.ask("/api/v1/hosts/web-1", "DELETE").status_code == 204
    assert api.get("/credentials")["credentials"][0]["state"] == "valid"


def test_issuing_by_hand(api: Api) -> None:
    """An admin may issue a credential without a token; a valid one is replaced where that is said."""
    answer = api.ask("/api/v1/credentials", "POST", json={"host": "web-1", "labels": {"rack": "b7"}})
    assert answer.status_code == 201
    assert answer.json()["broker_url"] == BROKER.url
    assert api.ask("/api/v1/credentials", "POST", json={"host": "web-1"}).status_code == 409
    again = api.ask("/api/v1/credentials", "POST", json={"host": "web-1", "replaces": True})
    assert again.json()["password"] != answer.json()["password"]
    assert api.get("/credentials")["credentials"][0]["issued_by"] == "tests"


def test_credentials_come_in_pages(api: Api) -> None:
    """The list goes on where the page before ended, and names every host once."""
    plain = made(api)
    for at in range(5):
        enrol(api, plain, f"web-{at}")
    seen, cursor = [], None
    while True:
        page = api.get("/credentials", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [one["host"] for one in page["credentials"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == [f"web-{at}" for at in range(5)]


@pytest.mark.parametrize(("terms", "field"), [
    ({"max_uses": 0}, "max_uses"), ({"hosts": ""}, "hosts"), ({"hosts": "web-?"}, "hosts"), ({"hosts": "*a*b*c*"}, "hosts"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"), ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
    ({"name": "a b"}, "name"), ({"scopes": ["read"]}, "scopes")])
def test_terms_that_cannot_be(api: Api, terms: dict[str, Any], field: str) -> None:
    """Unusable terms are refused by field."""
    answer = api.ask("/api/v1/enrolment-tokens", "POST", json={"name": "web", **terms})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_an_api_that_knows_no_broker(api: Api) -> None:
    """It says which setting is missing, and uses nothing up; a credential by hand comes without an address."""
    plain = made(api)
    with api_client.running(Backend(api.backend._url, clock=lambda: NOW)) as client:
        api_client.wait_for(client, "/readyz", 200)
        answer = client.post("/api/v1/enrolments", headers={"Authorization": f"Bearer {plain}"}, json={"host": "web-1"})
        assert answer.status_code == 503
        assert "DRUMBEAT_AGENT_BROKER_URL" in answer.json()["detail"]
        issued = client.post("/api/v1/credentials", headers={"Authorization": f"Bearer {api.token}"}, json={"host": "web-1"})
        assert (issued.status_code, issued.json()["broker_url"]) == (201, None)
    assert api.get("/enrolment-tokens")["enrolment_tokens"][0]["uses"] == 0

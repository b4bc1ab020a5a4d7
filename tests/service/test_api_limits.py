"""Rate limits and bounds of the API: what is one too many is refused, says when to come again, and costs others nothing."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import api_client
import builders
import pytest
from api_client import Api
from limits import parse

from aggregator.api import bounds, command, limits
from aggregator.api.limits import Limiter
from aggregator.store import tokens
from shared.settings import SettingsError, load


@contextlib.contextmanager
def _limited(url: str, **rates: str) -> Iterator[Api]:
    """An API whose only limits are these."""
    with api_client.serving(url, limiter=Limiter(limits.read_rates({"all": "0"} | rates))) as (api, connection):
        builders.store_partitions(connection)
        yield api


def _token(api: Api, name: str, scope: str = "read") -> str:
    return tokens.create(api.backend.engine, name, [scope])


def test_one_request_too_many_is_refused_and_says_when_to_come_again(database_url: str) -> None:
    """Up to the limit every answer says what is left; beyond it 429 with Retry-After, for this token and this route alone."""
    with _limited(database_url, lists="3/minute") as api:
        one, other = _token(api, "one"), _token(api, "other")
        left = [api.ask("/api/v1/alerts", token=one).headers["ratelimit"] for _ in range(3)]
        assert [text.partition(";t=")[0] for text in left] == ['"lists";r=2', '"lists";r=1', '"lists";r=0']
        refused = api.ask("/api/v1/alerts", token=one)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["ratelimit-policy"] == '"lists";q=3;w=60'
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["detail"].startswith("3 requests in 60 s are allowed here (limit 'lists'); ask again in ")
        assert api.ask("/api/v1/alerts", token=other).status_code == 200
        assert api.ask("/api/v1/executions", token=one).status_code == 200
        assert api.ask("/api/v1/hosts", token=one).status_code == 200


def test_a_limit_is_over_when_its_window_is(database_url: str) -> None:
    """Who waits as long as Retry-After says is answered again."""
    with _limited(database_url, lists="2/second") as api:
        answers = [api.ask("/api/v1/alerts") for _ in range(20)]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        time.sleep(1)
        assert api.ask("/api/v1/alerts").status_code == 200


def test_answers_that_are_errors_are_counted_too(database_url: str) -> None:
    """What is not found, unusable or beyond the scope costs as much as what is answered."""
    with _limited(database_url, details="2/minute", changes="1/minute") as api:
        reader = _token(api, "reader")
        assert [api.ask("/api/v1/hosts/none", token=reader).status_code for _ in range(3)] == [404, 404, 429]
        assert api.ask("/api/v1/hosts/none/processes?limit=99", token=reader).headers["ratelimit"].startswith('"details";r=1')
        assert [api.ask("/api/v1/tokens", "POST", token=reader, json={}).status_code for _ in range(2)] == [403, 429]


def test_guessing_is_slow_and_hinders_nobody_who_is_known(database_url: str) -> None:
    """After some refusals an address may not ask about further tokens; one that was seen to be valid goes on.

    Who claims to be a proxy is not believed.
    """
    with _limited(database_url, refused="5/minute") as api:
        assert api.ask("/api/v1/alerts").status_code == 200
        guesses = [api.ask("/api/v1/alerts", token=f"dbt_guess-{number}", headers={"X-Forwarded-For": f"198.51.100.{number}"})
                   .status_code for number in range(7)]
        assert guesses == [401] * 5 + [429] * 2
        right = _token(api, "not-yet-seen")
        assert api.ask("/api/v1/alerts", token=right).status_code == 429
        assert api.ask("/api/v1/alerts", token="").status_code == 429
        assert api.ask("/api/v1/enrolments", "POST", token="dbe_guess", json={"host": "web-1"}).status_code == 429
        assert api.ask("/api/v1/alerts").status_code == 200


def test_guesses_do_not_ask_the_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a guess costs no question to the database."""
    asked = []
    found = tokens.fetch_by_digest
    monkeypatch.setattr(tokens, "fetch_by_digest", lambda *what: asked.append(what) or found(*what))
    with _limited(database_url, refused="3/minute") as api:
        for number in range(50):
            api.ask("/api/v1/alerts", token=f"dbt_guess-{number}")
        assert len(asked) == 3


def test_probes_and_documentation_are_never_limited(database_url: str) -> None:
    """A supervisor may ask /livez and /readyz as often as it likes."""
    with api_client.serving(database_url, limiter=Limiter(dict.fromkeys(limits.GROUPS, parse("1/minute")))) as (api, _):
        for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
            answers = [api.ask(path, token="") for _ in range(5)]
            assert {answer.status_code for answer in answers} == {200}
            assert "ratelimit" not in answers[0].headers


def test_one_token_holds_only_some_of_the_connections(database_url: str) -> None:
    """Slow questions of one token leave connections to others; they are answered meanwhile."""
    with _limited(database_url, lists="1000/minute") as api, api.connection.transaction():
        other = _token(api, "other")
        api.connection.execute("LOCK TABLE alert IN ACCESS EXCLUSIVE MODE")
        with contextlib.ExitStack() as stack:
            asking = [_open(stack, api, "/api/v1/alerts") for _ in range(limits.AT_ONCE + 2)]
            answers = [_first_line(one) for one in asking if _has_answer(one)]
            assert answers == ["HTTP/1.1 429 Too Many Requests"] * 2
            assert api.ask("/api/v1/schedules", token=other).status_code == 200


def _open(stack: contextlib.ExitStack, api: Api, path: str) -> socket.socket:
    opened = stack.enter_context(socket.create_connection((api.client.base_url.host, api.client.base_url.port or 0)))
    opened.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.token}\r\n\r\n".encode())
    time.sleep(0.05)
    return opened


def _has_answer(opened: socket.socket) -> bool:
    opened.settimeout(0.3)
    try:
        return bool(opened.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


def _first_line(opened: socket.socket) -> str:
    return opened.recv(4096).partition(b"\r\n")[0].decode()


def test_every_route_has_a_group_and_every_group_a_route() -> None:
    """The table of routes names only routes that there are, and no group is without one."""
    document = json.loads(api_client.openapi())
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert set(limits.OF_ROUTES) <= routes
    assert {limits.group_of(*route) for route in routes} | {"refused"} == set(limits.GROUPS)


@pytest.mark.parametrize(("wanted", "words"), [
    ({"list": "3/minute"}, "there is no group 'list'; allowed: details"), ({"lists": "often"}, "lists=often: a limit is like"),
    ({"lists": "-1/minute"}, "a limit is like"), ({"lists": ""}, "a limit is like")])
def test_an_unusable_limit_is_refused_in_words(wanted: dict[str, str], words: str) -> None:
    """A misspelt group or rate is an error that says what is allowed."""
    with pytest.raises(limits.RateError, match=words.replace("(", r"\(")):
        limits.read_rates(wanted)


def test_a_proxy_that_is_named_is_believed(database_url: str) -> None:
    """With --trusted-proxies refusals count for the address that the proxy tells, and TLS that it ends is known."""
    options = command.server_options(["127.0.0.1"])
    limiter = Limiter(limits.read_rates({"all": "0", "refused": "1/minute"}))
    with api_client.serving(database_url, limiter=limiter, options=options) as (api, _):
        told = [api.ask("/api/v1/alerts", token="", headers={"X-Forwarded-For": address, "X-Forwarded-Proto": "https"})
                for address in ("198.51.100.1", "198.51.100.1", "198.51.100.2")]
    assert [answer.status_code for answer in told] == [401, 429, 401]
    assert "strict-transport-security" in told[0].headers


def test_limits_are_settings() -> None:
    """`--rate-limits` changes some groups, `all=0` switches every limit off."""
    own = ["--database-url", "postgresql://a@b/c", "--rate-limits"]
    changed = load(command.ApiSettings, "api", [*own, "lists=7/minute,cleanup=0"], {})
    rates = limits.read_rates(changed.rate_limits)
    assert str(rates["lists"]) == "7 per 1 minute"
    assert "cleanup" not in rates
    assert str(rates["details"]) == "100 per 1 minute"
    assert limits.read_rates(load(command.ApiSettings, "api", [*own, "all=0"], {}).rate_limits) == {}
    with pytest.raises(SettingsError, match="--rate-limits: there is no group 'x'"):
        command.main([*own, "x=1/minute"], {})


@pytest.mark.parametrize(("address", "expected"), [
    ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("::ffff:192.0.2.7", "192.0.2.7"),
    ("fe80::1%eth0", "fe80::/64"), ("socket", "unknown")])
def test_a_customer_has_one_limit_however_many_addresses(address: str, expected: str) -> None:
    """IPv6 is counted by /64: who has 2^64 addresses gets no more guesses."""
    assert limits.network(address) == expected


# bounds


def _nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_bodies_nested_too_deeply_are_refused(api: Api) -> None:
    """32 levels are read, 33 are refused before anything parses them; 100,000 cost no more."""
    answers = [api.ask("/api/v1/events", "POST", content=body, headers={"Content-Type": "application/json"})
               for body in (_nested(32), _nested(33), b"[" * 100_000)]
    assert {answer.status_code for answer in answers} == {422}
    assert ["deeper than 32" in answer.text for answer in answers] == [False, True, True]
    assert answers[1].json()["errors"][0]["field"] == "body"


@pytest.mark.parametrize(("body", "expected"), [
    (b"[" * 32 + b"]" * 32, False), (b"[" * 33 + b"]" * 33, True), (b'{"a":[' * 16 + b"]}" * 16, False),
    (b'{"a":[' * 16 + b"1,{}" + b"]}" * 16, True), (b'["' + b"[" * 99 + b'"]', False), (b'["\\"' + b"[" * 99 + b'"]', False),
    (b"[]," * 300_000, False), (b'"' * 400_000 + b"[" * 33, True), (b'"\\' * 400_000 + b"{" * 33, False)])
def test_depth_is_told_without_parsing(body: bytes, expected: bool) -> None:
    """Brackets in texts do not count; what is hostile takes no longer than what is large."""
    before = time.process_time()
    assert bounds.is_too_deep(body) == expected
    assert time.process_time() - before < 5


def test_addresses_are_bounded(api: Api) -> None:
    """A query at the bound is answered, one byte more is a 414; a thousand hosts fit. So it is with headers."""
    room = bounds.MAX_ADDRESS_BYTES - len("/api/v1/hosts" "q=")
    assert api.ask(f"/api/v1/hosts?q={'x' * room}").status_code == 422
    refused = api.ask(f"/api/v1/hosts?q={'x' * (room + 1)}")
    assert (refused.status_code, refused.headers["content-type"]) == (414, "application/problem+json")
    assert api.ask(f"/api/v1/hosts?{'&'.join(f'host=web-{number}' for number in range(1000))}").status_code == 200
    assert api.ask("/api/v1/hosts", headers={f"x-{number}": "x" * 1000 for number in range(31)}).status_code == 200
    refused = api.ask("/api/v1/hosts", headers={f"x-{number}": "x" * 1000 for number in range(32)})
    assert (refused.status_code, refused.headers["content-type"]) == (431, "application/problem+json")


@pytest.mark.parametrize(("path", "most"), [("host=web-{}", 1000), ("label=a:{}", 20)])
def test_lists_of_parameters_are_bounded(api: Api, path: str, most: int) -> None:
    """A parameter that may be repeated may be so many times, and not once more."""
    for number, status in ((most, 200), (most + 1, 422)):
        query = "&".join(path.format(index) for index in range(number))
        assert api.ask(f"/api/v1/hosts?{query}").status_code == status


def test_a_slow_body_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who begins a body and does not end it is answered 408 and let go."""
    monkeypatch.setattr(bounds, "BODY_SECONDS", 0.2)
    with socket.create_connection((api.client.base_url.host, api.client.base_url.port or 0)) as opened:
        opened.sendall(b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        opened.settimeout(10)
        answer = b""
        while part := opened.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not come within" in answer


def test_there_is_a_bound_of_requests_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many requests under way the next is told to come again; probes are answered."""
    monkeypatch.setattr(bounds, "MAX_REQUESTS", 0)
    refused = api.ask("/api/v1/hosts")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert api.ask("/livez").status_code == 200


def test_bodies_that_do_not_end_keep_no_question_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can begin bodies: with too many under way further bodies wait, and what has none is answered."""
    monkeypatch.setattr(bounds, "MAX_REQUESTS", 2)
    with contextlib.ExitStack() as open_bodies:
        for _ in range(2):
            opened = socket.create_connection((api.client.base_url.host, api.client.base_url.port or 0))
            open_bodies.enter_context(opened).sendall(b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        while api.ask("/api/v1/events", "POST", json={}).status_code != 503:
            time.sleep(0.01)
        assert api.ask("/api/v1/hosts").status_code == 200


def test_a_question_that_takes_too_long_is_given_up(database_url: str) -> None:
    """The database cancels it after the time that is set, and the answer says what to ask instead."""
    with api_client.serving(database_url, timeout_s=0.3) as (api, connection), connection.transaction():
        connection.execute("LOCK TABLE alert IN ACCESS EXCLUSIVE MODE")
        refused = api.ask("/api/v1/alerts")
    assert refused.status_code == 503
    assert refused.json()["detail"].startswith("the question took too long")


def test_validating_rules_is_bounded(api: Api) -> None:
    """Templates cost to check: all rules of a call together may have so many characters of them, not one more."""
    rule: dict[str, Any] = {"metric": "cpu.percent", "warning": 80.0, "message": "x" * 1000}
    rules = [rule | {"name": f"r{number}"} for number in range(100)]
    assert api.ask("/api/v1/alert-rules/validate", "POST", json={"rules": rules}).json()["valid"]
    refused = api.ask("/api/v1/alert-rules/validate", "POST", json={"rules": [*rules, rule | {"name": "more", "message": "x"}]})
    assert refused.status_code == 422
    assert "100000 characters" in refused.json()["detail"]

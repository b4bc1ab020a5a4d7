"""The notifier against a real Postgres, a real mail server and a real HTTP receiver; time is passed in."""

import hashlib
import hmac
import json
import socket
import threading

import msgspec
import psycopg
import pytest
import receivers
import service_roles
from alert_rows import store_alert, store_event, store_firing
from builders import NOW, store_host

from aggregator.analysis.channels import Channel, Email, Target
from aggregator.analysis.routing import Route
from aggregator.notify import routing
from aggregator.notify.delivering import Deliveries
from aggregator.notify.gauges import Gauges
from aggregator.store import channels, notifications, reading
from shared import database

KEY = "a-key-of-the-webhook"

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")  # the mail server of the tests has no TLS


class Notifier:
    """Notifiers of a test, on one database: `pass_on` moves their clock, routes and delivers until nothing is left to do.

    `own` has the rights of their role alone, `connection` those of the owner, for rows of the test.
    """

    def __init__(self, url):
        self.url, self.now = url, NOW.timestamp()
        self.engine = reading.open_engine(url)
        self.connection = database.open_connection(url, "tests")
        self.own_url = service_roles.login(url, "notifier")
        self.own = database.open_connection(self.own_url, "tests")
        self.host = store_host(self.connection, "web-1", labels={"site": "berlin"})
        self._open = []

    def clock(self):
        return self.now

    def deliveries(self, **more):
        made = Deliveries(Gauges(), self.clock, **{"allow_private": True, "public_url": "https://drumbeat.example"} | more)
        self._open.append(made)
        return made

    def pass_on(self, seconds=0.0, **more):
        self.now += seconds
        deliveries = self.deliveries(**more)
        while routing.route(self.own, self.now).is_full or deliveries.start(self.own) or deliveries.under_way:
            deliveries.collect(self.own, 0.05)

    def channel(self, name, type_="webhook", url="", *, email=None, password="", **fields):
        channel = Channel(type=type_, address="", email=email, **fields)
        channels.create_channel(self.engine, name, channel, Target(url=url, key=KEY, password=password), "tests")

    def mail(self, name, server, **fields):
        email = Email(host="127.0.0.1", port=server.port, from_="drumbeat@example.com", to=["ops@example.com"], tls="none",
                      **fields)
        self.channel(name, "email", email=email, password="p/w@1" if fields else "")

    def route(self, name, *names, **fields):
        channels.create_route(self.engine, name, None, Route(channels=list(names), **fields), "tests")

    def firing(self, **fields):
        return store_firing(self.connection, self.host, **fields)[0]

    def happens(self, alert, kind, **columns):
        """An event of an alert, with the columns of the alert that it changes."""
        for column, value in columns.items():
            self.connection.execute(f"UPDATE alert SET {column} = %s WHERE id = %s", [value, alert])
        store_event(self.connection, alert, kind=kind)

    def resolved(self, alert):
        self.happens(alert, "resolved", state="resolved", resolved_at=NOW)

    def shown(self, **asked):
        asked = {"state": None, "channel": None, "alert": None, "before": None, "limit": 100} | asked
        return notifications.fetch(self.engine, **asked)

    def close(self):
        for deliveries in self._open:
            deliveries.stop(None)
        self.own.close()
        self.connection.close()
        self.engine.dispose()


@pytest.fixture(scope="module")
def notifier_database(admin_database_url, template_database):
    """A migrated database of the module; each test finds its tables empty."""
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute(f"CREATE DATABASE notifier_tests TEMPLATE {template_database}")
        yield f"{admin_database_url.rpartition('/')[0]}/notifier_tests"
        connection.execute("DROP DATABASE notifier_tests WITH (FORCE)")


@pytest.fixture
def notifier(notifier_database):
    with database.open_connection(notifier_database, "tests") as connection:  # DELETE: of small tables quicker than TRUNCATE
        connection.execute("DELETE FROM host; DELETE FROM notification; DELETE FROM notification_group; "
                           "DELETE FROM notification_route; DELETE FROM notification_channel")
    made = Notifier(notifier_database)
    yield made
    made.close()


@pytest.fixture
def hook():
    with receivers.hook() as server:
        yield server


def told(hook):
    """What a receiver was told, as (kind, ids of alerts, ids of those over)."""
    documents = [json.loads(body) for _, _, body in hook.requests]
    return [(one["kind"], sorted(alert["id"] for alert in one["alerts"]),
             sorted(alert["id"] for alert in one["alerts"] if alert["resolved_at"])) for one in documents]


def test_an_alert_is_told_once_after_the_wait_and_its_end_once(notifier, hook):
    """A new group waits, is told in one message, is not told again without news, and its end is told once."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook")
    first, second = notifier.firing(), notifier.firing(instance="core=1")
    notifier.pass_on()
    assert told(hook) == []
    notifier.pass_on(31)
    notifier.pass_on(400)
    assert told(hook) == [("alerts", [first, second], [])]
    notifier.resolved(first)
    notifier.pass_on(400)
    assert len(hook.requests) == 1
    notifier.resolved(second)
    notifier.pass_on(1)
    notifier.pass_on(400)
    assert told(hook)[1:] == [("alerts", [first, second], [first, second])]
    assert notifier.connection.execute("SELECT count(*) FROM notification_group").fetchone() == (0,)


def test_a_webhook_is_signed_and_says_all_of_an_alert(notifier, hook):
    """Whoever has the key can prove that the request is drumbeat's, and the delivery id tells a repetition."""
    notifier.channel("hook", url=f"{hook.url}/alerts?from=drumbeat")
    notifier.route("berlin", "hook", match={"labels": {"site": "berlin"}}, group_by=["host", "label:site"], wait=0)
    alert = notifier.firing(severity="critical")
    notifier.pass_on()
    (path, headers, body), = hook.requests
    stamp, given = (part.partition("=")[2] for part in headers["X-Drumbeat-Signature"].split(","))
    assert given == hmac.new(KEY.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert path == "/alerts?from=drumbeat"
    document = json.loads(body)
    assert headers["X-Drumbeat-Delivery"] == str(document["notification"])
    assert (document["version"], document["route"], document["group"]) == (1, "berlin", {"host": "web-1", "label:site": "berlin"})
    shown = document["alerts"][0]
    assert (shown["id"], shown["host"], shown["severity"], shown["state"]) == (alert, "web-1", "critical", "firing")
    assert shown["links"]["alert"] == f"https://drumbeat.example/api/v1/alerts/{alert}"


def test_a_webhook_says_what_its_template_says(notifier, hook):
    """Other services' JSON is a template; what is no JSON is sent as text; both are signed as sent."""
    notifier.channel("chat", url=f"{hook.url}/chat", template='{"text": {{ title|json }}, "all": {{ alerts|json }}}')
    notifier.channel("text", url=f"{hook.url}/text", template="{{ body }}")
    notifier.route("all", "chat", "text", wait=0)
    alert = notifier.firing(message='disk "/" is full')
    notifier.pass_on()
    (_, _, chat), (_, headers, text) = sorted(hook.requests, key=lambda request: request[0])
    assert json.loads(chat)["text"] == '[warning] web-1: disk "/" is full'
    assert [one["id"] for one in json.loads(chat)["all"]] == [alert]
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert text.startswith(b'warning: web-1: disk "/" is full')
    stamp, given = (part.partition("=")[2] for part in headers["X-Drumbeat-Signature"].split(","))
    assert given == hmac.new(KEY.encode(), f"{stamp}.".encode() + text, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(("template", "reason"), [
    ("{{ body }}" * 999, "longer than 1000000 characters"), ("{{ title|json|json }}", "only once in a row")])
def test_a_template_that_cannot_be_filled_is_said_once(notifier, hook, template, reason):
    """What a template makes of many alerts is bounded, and one that an older version allowed is an error of the channel."""
    notifier.channel("chat", url=hook.url, template=template)
    notifier.route("all", "chat", wait=0)
    for n in range(20):
        notifier.firing(instance=f"core={n}", message="x" * 1000)
    notifier.pass_on()
    assert hook.requests == []
    (state, attempts, error), = notifier.connection.execute(
        """SELECT n.state, n.attempts, t.error
           FROM notification n JOIN notification_attempt t ON t.notification_id = n.id""").fetchall()
    assert (state, attempts) == ("failed", 1)
    assert reason in error


def test_the_first_route_that_fits_takes_an_alert_unless_it_says_continue(notifier, hook):
    """Routes are tried in order; `continue` goes on to the next."""
    for name in ("a", "b", "c"):
        notifier.channel(name, url=f"{hook.url}/{name}")
    notifier.route("disks", "a", match={"types": ["low_disk"]}, wait=0)
    notifier.route("audit", "b", wait=0, continue_=True)
    notifier.route("rest", "c", wait=0)
    notifier.firing(rule="low_disk")
    notifier.pass_on()
    assert [path for path, _, _ in hook.requests] == ["/a"]
    notifier.firing(rule="reboot")
    notifier.pass_on()
    assert sorted(path for path, _, _ in hook.requests[1:]) == ["/b", "/c"]


@pytest.mark.parametrize("columns", [
    {"muted_by": ["silence 1"]}, {"acknowledged_by": "ada"}, {"dismissed_at": NOW}], ids=["muted", "acknowledged", "dismissed"])
def test_nobody_is_told_of_what_is_muted_acknowledged_or_dismissed(notifier, hook, columns):
    """What somebody knows of or wants quiet is not told, neither that it fires nor that it is over."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    alert = notifier.firing(**columns)
    notifier.pass_on()
    notifier.resolved(alert)
    notifier.pass_on(400)
    assert hook.requests == []


def test_an_alert_whose_silence_ends_is_told_if_it_still_fires(notifier, hook):
    """`unmuted` counts as firing."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    alert = notifier.firing(muted_by=["silence 1"])
    notifier.pass_on()
    notifier.happens(alert, "unmuted", muted_by=[])
    notifier.pass_on(1)
    assert told(hook) == [("alerts", [alert], [])]


def test_an_acknowledged_alert_is_not_repeated_but_its_end_is_told(notifier, hook):
    """Repeats come every `repeat` until somebody acknowledges."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0, repeat=3600)
    alert = notifier.firing()
    notifier.pass_on()
    notifier.pass_on(3600)
    assert [kind for kind, _, _ in told(hook)] == ["alerts", "repeat"]
    notifier.happens(alert, "acknowledged", acknowledged_by="ada")
    notifier.pass_on(3600)
    notifier.pass_on(3600)
    assert len(hook.requests) == 2
    notifier.resolved(alert)
    notifier.pass_on(1)
    assert told(hook)[2:] == [("alerts", [alert], [alert])]


def test_an_unacknowledged_alert_is_escalated_once(notifier, hook):
    """After `escalate_after` minutes the alert goes to `escalate_to`, once, and its end too; the others are not told again."""
    notifier.channel("mail", url=f"{hook.url}/mail")
    notifier.channel("pager", url=f"{hook.url}/pager")
    notifier.route("all", "mail", wait=0, escalate_after=15, escalate_to=["pager"])
    alert, known = notifier.firing(), notifier.firing(instance="core=1")
    notifier.pass_on()
    notifier.happens(known, "acknowledged", acknowledged_by="ada")
    notifier.pass_on(14 * 60)
    assert len(hook.requests) == 1
    notifier.pass_on(61)
    notifier.pass_on(3600)
    assert [path for path, _, _ in hook.requests[1:]] == ["/pager"]
    assert told(hook)[1] == ("escalation", [alert], [])
    notifier.resolved(alert)
    notifier.pass_on(400)
    assert sorted(path for path, _, _ in hook.requests[2:]) == ["/mail", "/pager"]


def test_a_refusal_is_tried_again_with_the_same_id_until_it_is_delivered(notifier, hook):
    """A 500 is tried again after about 30 s; every attempt is a row; the channel fails meanwhile and then no more."""
    hook.answers = [(500, {}, b"out of order"), (503, {}, b"")]
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    notifier.firing()
    notifier.pass_on()
    notifier.pass_on(20)
    assert len(hook.requests) == 1
    channel = channels.fetch_channel(notifier.engine, "hook")
    assert channel["failing_since"] is not None
    assert channel["last_error"] == "answered 500 Internal Server Error: out of order"
    notifier.pass_on(20)
    notifier.pass_on(150)
    assert len({headers["X-Drumbeat-Delivery"] for _, headers, _ in hook.requests}) == 1
    shown, = notifier.shown()
    assert (shown["state"], [attempt["ok"] for attempt in shown["attempts"]]) == ("delivered", [False, False, True])
    channel = channels.fetch_channel(notifier.engine, "hook")
    assert (channel["failing_since"], channel["last_error"]) == (None, "")


def test_a_dead_channel_is_given_up_and_the_other_channel_of_the_route_hears_of_it_once(notifier, hook):
    """After six attempts a notification has failed; from the third on others of the route are told, once."""
    notifier.channel("dead", url="http://127.0.0.1:1/hook")
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "dead", "hook", wait=0, interval=60, repeat=7200)
    notifier.firing()
    for _ in range(40):
        notifier.pass_on(200)
    failed, = notifier.shown(channel="dead", state="failed")
    assert len(failed["attempts"]) == 6
    about = [json.loads(body) for _, _, body in hook.requests if json.loads(body)["kind"] == "channel"]
    assert [one["channel"] for one in about] == ["dead"]
    assert "The channel dead fails since" in about[0]["text"]


def test_mail_is_delivered_with_and_without_login(notifier):
    """The same words go out as an e-mail; a server that wants a login gets it, whatever characters the password has."""
    with receivers.mail() as open_, receivers.mail(("drum@corp.example", "p/w@1")) as closed:
        notifier.mail("open", open_)
        notifier.mail("closed", closed, user="drum@corp.example")
        notifier.route("all", "open", "closed", wait=0)
        notifier.firing(message="disk /var is <b>full</b>")
        notifier.pass_on()
        assert [one["attempts"][0]["error"] for one in notifier.shown()] == ["", ""]
        for server in (open_, closed):
            (sender, recipients, message), = server.messages
            assert (sender, recipients) == ("drumbeat@example.com", ["ops@example.com"])
            assert message["Subject"] == "[warning] web-1: disk /var is <b>full</b>"
            assert "disk /var is <b>full</b>" in message.get_body(("plain",)).get_content()
        assert closed.logins == [("drum@corp.example", "p/w@1")]


def test_mail_that_is_refused_is_tried_again_and_no_secret_is_told(notifier):
    """A refusal of the mail server is an attempt with its reason, without the password; the next one delivers."""
    with receivers.mail(("drum", "p/w@1")) as server:
        server.refusals = ["451 try later p/w@1"]
        notifier.mail("mail", server, user="drum")
        notifier.route("all", "mail", wait=0)
        notifier.firing()
        notifier.pass_on()
        notifier.pass_on(40)
        shown, = notifier.shown()
        assert (shown["state"], [attempt["ok"] for attempt in shown["attempts"]]) == ("delivered", [False, True])
        assert "451" in shown["attempts"][0]["error"]
        assert "p/w" not in shown["attempts"][0]["error"]
        assert len(server.messages) == 1


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://2130706433:{port}/",
    "http://0x7f.1:{port}/", "http://0:{port}/", "http://169.254.169.254/latest/meta-data/"])
def test_a_webhook_into_a_private_network_is_refused_for_good(notifier, hook, url):
    """However the address is written, nothing is connected to; the reason names the setting, and it is not tried again."""
    notifier.channel("hook", url=url.format(port=hook.url.rpartition(":")[2]))
    notifier.route("all", "hook", wait=0)
    notifier.firing()
    notifier.pass_on(allow_private=False)
    shown, = notifier.shown()
    assert shown["state"] == "failed"
    assert "start the notifier with --allow-private-addresses" in shown["attempts"][0]["error"]
    assert hook.requests == []


@pytest.mark.parametrize("url", ["json://127.0.0.1:{port}/x", "ntfy://127.0.0.1:{port}/topic", "form://localhost:{port}/"])
def test_apprise_is_held_to_the_same_addresses(notifier, hook, url):
    """What a library connects to by itself comes past the same check; allowed, the same URL is delivered."""
    notifier.channel("other", "other", url=url.format(port=hook.url.rpartition(":")[2]))
    notifier.route("all", "other", wait=0, interval=1)
    alert = notifier.firing()
    notifier.pass_on(allow_private=False)
    assert hook.requests == []
    assert "is not a public address" in notifier.shown()[0]["attempts"][0]["error"]
    notifier.resolved(alert)
    notifier.pass_on(60)
    assert len(hook.requests) == 1


def test_a_name_that_comes_to_mean_a_private_address_is_refused(notifier, hook, monkeypatch):
    """What counts is the address that is connected to, not what the name meant a moment before."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **named: real(
        "127.0.0.1" if host in ("rebind.example", b"rebind.example") else host, *more, **named))
    notifier.channel("hook", url=f"http://rebind.example:{hook.url.rpartition(':')[2]}/")
    notifier.route("all", "hook", wait=0)
    notifier.firing()
    notifier.pass_on(allow_private=False)
    assert "127.0.0.1 is not a public address" in notifier.shown()[0]["attempts"][0]["error"]
    assert hook.requests == []


def test_an_alert_that_gets_worse_and_moves_to_another_route_is_ended_on_both(notifier, hook):
    """Who was told of a warning hears its end, though another route told of what became of it; nobody hears anything twice."""
    for name in ("mild", "serious"):
        notifier.channel(name, url=f"{hook.url}/{name}")
    notifier.route("serious", "serious", match={"severity": "critical"}, wait=0, repeat=3600)
    notifier.route("rest", "mild", wait=0, repeat=3600)
    alert = notifier.firing()
    notifier.pass_on()
    notifier.happens(alert, "severity", severity="critical")
    notifier.pass_on(400)
    notifier.pass_on(3700)
    assert [path for path, _, _ in hook.requests] == ["/mild", "/serious", "/serious"]
    notifier.resolved(alert)
    notifier.pass_on(400)
    assert sorted(path for path, _, _ in hook.requests[3:]) == ["/mild", "/serious"]


def test_rows_that_cannot_be_read_do_not_stop_the_others(notifier, hook):
    """A channel, a route or a group that somebody spoilt is left out; the rest is told."""
    for name in ("bad", "good"):
        notifier.channel(name, url=hook.url)
    notifier.route("all", "bad", "good", wait=0)
    notifier.connection.execute("UPDATE notification_channel SET definition = '{}' WHERE name = 'bad'")
    notifier.connection.execute("INSERT INTO notification_route (name, position, definition) VALUES ('bad', 1, '{\"wait\": []}')")
    notifier.connection.execute("INSERT INTO notification_group VALUES ('all', '[]', '{\"members\": 5}', to_timestamp(0))")
    notifier.firing()
    notifier.pass_on()
    assert len(hook.requests) == 1


def test_a_redirect_is_not_followed(notifier, hook):
    """A receiver cannot send drumbeat elsewhere: neither the webhook nor Apprise goes where a redirect points."""
    with receivers.hook() as inner:
        notifier.channel("hook", url=hook.url)
        notifier.channel("other", "other", url=f"json://{hook.url.removeprefix('http://')}/x")
        notifier.route("all", "hook", "other", wait=0)
        hook.answers = [(302, {"Location": f"{inner.url}/secret"}, b""), (307, {"Location": f"{inner.url}/secret"}, b"")]
        notifier.firing()
        notifier.pass_on()
        assert len(hook.requests) == 2
        assert inner.requests == []
        errors = {one["channel"]: one["attempts"][0]["error"] for one in notifier.shown()}
        assert "redirects are not followed" in errors["hook"]


def test_an_answer_is_read_up_to_a_bound(notifier, hook):
    """An endless answer costs 64 KB; it was a 200, so the notification is delivered."""
    hook.answers = [receivers.endless]
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    notifier.firing()
    notifier.pass_on()
    assert notifier.shown()[0]["state"] == "delivered"


def test_an_attempt_that_drips_is_cut_off_at_its_limit(notifier, hook):
    """A receiver that never lets a single read time out is cut off all the same, and delays no other channel."""
    hook.answers = [receivers.dripping]
    notifier.channel("slow", url=hook.url)
    notifier.route("all", "slow", wait=0)
    notifier.firing()
    notifier.pass_on(limit_seconds=0.3)
    attempt, = notifier.shown()[0]["attempts"]
    assert attempt["error"] == "it took too long and was cut off"
    assert attempt["seconds"] < 4


def test_two_notifiers_at_once_deliver_each_notification_once(notifier, hook):
    """Whoever takes a notification has it; nobody else sends it meanwhile."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0, group_by=["rule"])
    for number in range(30):
        notifier.firing(rule=f"rule_{number}")
    routing.route(notifier.own, notifier.now)

    def work(connection):
        deliveries = notifier.deliveries()
        while deliveries.start(connection) or deliveries.under_way:
            deliveries.collect(connection, 0.05)

    with database.open_connection(notifier.own_url, "tests") as other:
        threads = [threading.Thread(target=work, args=[connection]) for connection in (notifier.own, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(hook.requests) == 30
    assert len({headers["X-Drumbeat-Delivery"] for _, headers, _ in hook.requests}) == 30


def test_a_notifier_that_dies_between_taking_and_delivering_loses_nothing(notifier, hook):
    """What a dead process had taken is taken again once its lease is over, with the same id."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    notifier.firing()
    routing.route(notifier.own, notifier.now)
    taken, = notifications.claim(notifier.own, notifier.now, 10, {}, 2)
    notifier.pass_on(60)
    assert hook.requests == []
    notifier.pass_on(61)
    assert [headers["X-Drumbeat-Delivery"] for _, headers, _ in hook.requests] == [str(taken.number)]


def test_a_pass_that_dies_is_done_again(notifier, hook):
    """Events are taken up, groups and notifications written in one transaction: a pass happens wholly or not at all."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    notifier.firing()
    with notifier.own.transaction() as transaction:
        assert routing.route(notifier.own, notifier.now).notifications == 1
        raise psycopg.Rollback(transaction)
    assert notifier.shown() == []
    notifier.pass_on()
    assert len(hook.requests) == 1


def test_a_channel_has_few_attempts_under_way(notifier, hook):
    """A slow channel holds two threads at most, so that others are served."""
    notifier.channel("slow", url=f"{hook.url}/slow")
    notifier.channel("quick", url=f"{hook.url}/quick")
    notifier.route("all", "slow", "quick", wait=0, group_by=["rule"])
    for number in range(5):
        notifier.firing(rule=f"rule_{number}")
    routing.route(notifier.own, notifier.now)
    taken = notifications.claim(notifier.own, notifier.now, 10, {"slow": 1}, 2)
    assert sorted(due.channel for due in taken) == ["quick", "quick", "slow"]


def test_a_route_that_comes_late_is_told_what_fires_already(notifier, hook):
    """Without a route nobody is told, and nothing piles up; a new route is told what fires now, an old one not again."""
    alert = notifier.firing()
    over = notifier.firing(instance="core=1")
    notifier.resolved(over)
    notifier.pass_on()
    assert notifier.connection.execute("SELECT count(*) FROM alert_event WHERE routed_at IS NULL").fetchone() == (0,)
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    notifier.pass_on()
    assert told(hook) == [("alerts", [alert], [])]
    notifier.route("none", "hook", match={"types": ["other"]})
    notifier.pass_on(400)
    assert len(hook.requests) == 1


def test_what_fired_and_was_over_long_ago_is_not_told(notifier, hook):
    """A notifier that comes back after hours does not tell of the past."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0)
    alert = store_alert(notifier.connection, notifier.host, state="resolved", resolved_at=NOW)
    store_event(notifier.connection, alert, recorded_at=NOW)
    notifier.pass_on(2 * 3600)
    assert hook.requests == []


def test_a_channel_hears_only_what_it_wants(notifier, hook):
    """min_severity, send_resolved and enabled of a channel hold for each message."""
    notifier.channel("serious", url=f"{hook.url}/serious", min_severity="error")
    notifier.channel("mild", url=f"{hook.url}/mild", send_resolved=False)
    notifier.channel("off", url=f"{hook.url}/off", enabled=False)
    notifier.route("all", "serious", "mild", "off", wait=0)
    alert = notifier.firing()
    notifier.pass_on()
    notifier.happens(alert, "severity", severity="critical")
    notifier.pass_on(301)
    notifier.resolved(alert)
    notifier.pass_on(301)
    assert sorted(path for path, _, _ in hook.requests) == ["/mild", "/mild", "/serious", "/serious"]


def test_a_host_that_is_deleted_leaves_its_groups(notifier, hook):
    """Alerts that are gone are not repeated."""
    notifier.channel("hook", url=hook.url)
    notifier.route("all", "hook", wait=0, repeat=3600)
    notifier.firing()
    notifier.pass_on()
    notifier.connection.execute("DELETE FROM host")
    notifier.pass_on(3601)
    notifier.pass_on(3601)
    assert len(hook.requests) == 1
    assert notifier.connection.execute("SELECT count(*) FROM notification_group").fetchone() == (0,)


def test_the_backlog_is_counted(notifier):
    """What waits, and for how long, is there for /metrics."""
    notifier.channel("hook", url="http://127.0.0.1:1")
    notifier.route("all", "hook", wait=0)
    notifier.firing()
    routing.route(notifier.own, notifier.now)
    notifier.firing(instance="core=1")
    found = notifications.fetch_backlog(notifier.own, notifier.now + 10)
    assert (found.due, found.events, found.failing) == (1, 1, 0)
    assert found.due_seconds == pytest.approx(10)
    assert msgspec.json.decode(notifications.claim(notifier.own, notifier.now, 1, {}, 1)[0].content)["kind"] == "alerts"

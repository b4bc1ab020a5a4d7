"""Channels, routes, addresses, words and retries of notifications."""

import subprocess
import sys

import pytest

from aggregator.analysis import channels, notices, routing
from aggregator.analysis.channels import ChannelError, Email, Target
from aggregator.analysis.matching import Match
from aggregator.analysis.notices import Told
from aggregator.analysis.routing import Route, Subject
from aggregator.notify import delivering, guard, sending
from shared import wire

SUBJECT = Subject(host="web-1", labels={"site": "berlin"}, rule="disk", type="low_disk", instance="mount=/", severity="error")
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


def alert(number=1, **fields):
    return wire.Alert(**{"id": number, "host": "web-1", "alert": "disk", "rule": "disk", "type": "low_disk", "state": "firing",
                         "severity": "warning", "message": "/var is 91 % full", "started_at": 0.0, "fired_at": 60.0,
                         "changed_at": 60.0} | fields)


@pytest.mark.parametrize(("address", "public"), [
    ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("10.0.0.1", False), ("172.16.5.5", False), ("192.168.1.1", False),
    ("127.0.0.1", False), ("0.0.0.0", False), ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False),
    ("255.255.255.255", False), ("::", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("ff02::1", False),
    ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False),
    ("example.com", False)])
def test_only_public_addresses_are_connected_to(address, public):
    """Private, loopback, link-local, shared, multicast and reserved addresses are not public, nor when inside of IPv6."""
    assert guard.is_public(address) is public


def test_a_sealed_process_connects_only_within_an_attempt():
    """A library that sends from a thread of its own gets nowhere."""
    code = ("import socket; from aggregator.notify import guard; guard.seal();\n"
            "try: socket.create_connection(('127.0.0.1', 1), 1)\n"
            "except guard.RefusedError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "nothing connects outside of an attempt\n"


@pytest.mark.parametrize("url", [
    SLACK, "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "ntfys://ntfy.example/alerts",
    "json://hooks.example/x", "mailtos://user:pass@mail.example?to=ops@example.com", "gotify://host.example/AbCdEfGhIjKlMnO"])
def test_services_that_speak_http_or_smtp_are_allowed(url):
    """What Apprise delivers over HTTP or SMTP may be a channel."""
    channels.check_service("other", url)


@pytest.mark.parametrize(("url", "why"), [
    ("syslog://", "not allowed"), ("rsyslog://10.0.0.1", "not allowed"), ("mqtt://host/topic", "not allowed"),
    ("irc://host/channel", "not allowed"), ("file:///etc/passwd", "no URL that Apprise can use"),
    ("slack://bad", "no URL that Apprise can use"), ("nonsense", "no URL that Apprise can use"),
    ("http://[::1", "this is no URL"), (f"{SLACK}?template=/etc/passwd", "nothing is read from files"),
    ("mailto://a:b@mail.example?to=c@d.example&pgp=yes", "nothing is read from files")])
def test_services_that_touch_the_machine_and_broken_urls_are_refused(url, why):
    """Services that run programs, write logs or read files cannot be channels; the message says what is wrong."""
    with pytest.raises(ChannelError, match=why):
        channels.check_service("other", url)


def test_a_url_must_be_of_the_channels_type():
    """A Slack URL in a channel of type ntfy is a mistake."""
    with pytest.raises(ChannelError, match="URL of slack, and the channel's type is ntfy"):
        channels.check_service("ntfy", SLACK)


@pytest.mark.parametrize("url", ["ftp://host/x", "https://", "https://user:pass@host/x", "hooks.example/x"])
def test_a_webhook_needs_a_plain_http_url(url):
    """Other schemes, no host, and credentials in the URL are refused."""
    with pytest.raises(ChannelError):
        channels.check_webhook(url)


@pytest.mark.parametrize(("url", "shown"), [
    ("https://hooks.example:8443/T0K3N?key=S3CRET", "https://hooks.example:8443"), (SLACK, "slack://***"),
    ("mailto://ops:S3CRET@mail.example:25/?to=a@b.example", "mailto://***@mail.example:25")])
def test_an_address_is_shown_without_what_is_secret(url, shown):
    """Neither credentials nor paths, which are tokens with most services."""
    assert channels.shown(url) == shown


def test_a_mail_server_becomes_a_url_whatever_the_password_holds():
    """Each character of a password survives."""
    email = Email(host="mail.example", port=465, user="ops@corp.example", from_="a@b.example", to=["c@d.example"], tls="tls")
    assert channels.email_url(email, "p/w@:?#") == (
        "mailtos://ops%40corp.example:p%2Fw%40%3A%3F%23@mail.example:465/?mode=ssl&smtp=mail.example&from=a%40b.example"
        "&to=c%40d.example")


def test_errors_hold_no_secret():
    """The URL, its parts, the key, the password and whatever looks like a token are left out of what is stored and logged."""
    target = Target(url="https://hooks.example/services/T0K3NT0K3N?auth=S3CRETS3CRET", key="K3YK3YK3YK3YK3YK",
                    password="P4SSW0RD")
    said = sending.redacted("hooks.example said T0K3NT0K3N, S3CRETS3CRET, K3YK3YK3YK3YK3YK, P4SSW0RD, "
                            "abcdefghijklmnopqrstuvwxyz0123, http://u:pw@host", target)
    assert said == "hooks.example said ***, ***, ***, ***, ***, http://u:***@host"


def test_routes_are_tried_in_order():
    """The first that fits takes the alert; `continue` goes on; none may fit."""
    disks = ("disks", Route(channels=["a"], match=Match(types=["low_*"]), continue_=True))
    berlin = ("berlin", Route(channels=["b"], match=Match(labels={"site": "berlin"}, severity="error")))
    rest = ("rest", Route(channels=["c"]))
    assert [name for name, _ in routing.fitting([disks, berlin, rest], SUBJECT)] == ["disks", "berlin"]
    assert routing.fitting([("none", Route(channels=["a"], match=Match(severity="critical")))], SUBJECT) == []


def test_a_group_is_what_its_alerts_have_in_common():
    """Fields and labels; a label that is missing is empty; the key can be read again."""
    labels = routing.group_labels(["type", "label:site", "label:rack"], SUBJECT)
    assert labels == {"type": "low_disk", "label:site": "berlin", "label:rack": ""}
    assert routing.read_group_key(routing.group_key(labels)) == labels


@pytest.mark.parametrize(("fields", "wrong"), [
    ({"channels": []}, {"channels"}), ({"channels": ["a", "b"]}, {"channels"}), ({"group_by": ["mount", "label:"]}, {"group_by"}),
    ({"escalate_after": 5}, {"escalate_to"}), ({"escalate_to": ["a"]}, {"escalate_after"}), ({}, set())])
def test_what_is_wrong_with_a_route_is_named(fields, wrong):
    """Each fault names its field."""
    assert set(routing.problems(Route(**{"channels": ["a"]} | fields), ["a"])) == wrong


def test_one_alert_is_told_in_a_line_and_many_are_summed_up():
    """The title says how bad, what and where; the text has each alert with what to do, at most 20."""
    full = Told(alert=alert(recommendation="Delete logs."), is_new=True)
    one = notices.content("alerts", "all", {"type": "low_disk"}, [full], 0)
    assert notices.title(one) == "[warning] web-1: /var is 91 % full"
    assert notices.body(one, "") == ("warning: web-1: /var is 91 % full\nsince 1970-01-01 00:01:00 UTC\nDelete logs.\n"
                                     "drumbeat alerts show 1\n\nRoute all, group type low_disk")
    many = [Told(alert=alert(n, host=f"web-{n}", severity="critical" if n == 7 else "info"), is_new=True) for n in range(250)]
    told = notices.content("repeat", "all", {}, many, 0)
    assert notices.title(told) == "[still critical] 250 alerts: low_disk on 200 hosts"
    assert (len(told.alerts), told.left_out, told.alerts[0].alert.id) == (200, 50, 7)
    assert "… and 230 more" in notices.body(told, "https://drumbeat.example")


def test_an_end_says_so():
    """What is over is told as resolved, with its time."""
    told = notices.content("alerts", "all", {}, [Told(alert=alert(state="resolved"), resolved_at=120.0)], 0)
    assert notices.is_resolution(told)
    assert notices.title(told) == "[resolved] web-1: /var is 91 % full"
    assert "since 1970-01-01 00:01:00 UTC until 1970-01-01 00:02:00 UTC" in notices.body(told, "")


def test_a_template_may_name_what_the_document_has():
    """The fields that are allowed are those that are sent, and the text."""
    told = notices.content("alerts", "all", {}, [], 0)
    assert {*notices.document(told, 1, "", 0), "body"} == notices.FIELDS
    assert notices.template_problem("{{ title|json }} {{ body }}") == ""
    assert "there is no colour; it may name alerts, body" in notices.template_problem("{{ colour }}")


def test_attempts_grow_apart_and_end():
    """30 s, 2 min, 8 min, 30 min, give or take a fifth; the sixth is the last, and none comes after 4 hours."""
    waits = [delivering.next_attempt(attempts, 0, 1000, 0.5) for attempts in range(1, 7)]
    assert waits == [1030, 1120, 1480, 2800, 2800, None]
    assert delivering.next_attempt(1, 0, 1000, 0.0) == 1024
    assert delivering.next_attempt(2, 0, 4 * 3600, 0.5) is None

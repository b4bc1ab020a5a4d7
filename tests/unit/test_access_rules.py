"""Grants, and the files that are made of them: what cannot be written, and what must not be lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose import acl, broker_files, grants, membership
from compose.grants import Grant
from shared import cli
from shared.names import is_host


@pytest.mark.parametrize(("name", "rights"), [
    ("ingest", "event"), ("operator", "event"), ("web.1", "event"), ("A", "event"), ("", "event"), ("+", "event"),
    ("x" * 64, "event"), ("backup", ""), ("backup", "everything"), ("backup", "event:x"), ("backup", "execute"),
    ("backup", "execute:"), ("backup", "trigger:+"), ("backup", "trigger:Nightly"), ("backup", "trigger:a/b"),
    ("backup", "event+#"), ("backup", 'trigger:a"')])
def test_programs_and_rights_that_do_not_exist(name, rights):
    """A name that a service has or a host could not have, and a right that is none, are refused with what is allowed."""
    with pytest.raises(grants.RightError, match="allowed"):
        grants.program(name, rights)


def test_rights_are_joined():
    """A program has what each of its rights gives."""
    both = grants.program("home", "event+action")
    assert both == Grant("service.home", ("drumbeat/v1/event/+", "drumbeat/v1/alert-action/+/+"), ())


def test_users_of_services_are_no_hosts():
    """No agent's credential can be taken for that of a service or a program."""
    assert not any(is_host(grant.user) for grant in (*grants.services(), grants.program("x", "event")))


@pytest.mark.parametrize(("arguments", "named"), [
    (["nats", "--programs", "backup"], "--programs"), (["nats", "--own-hosts", "*"], "--own-hosts"),
    (["nats", "--own-hosts", "a.b"], "--own-hosts"), (["mosquitto", "--follow"], "--follow"),
    (["emqx", "--to", "/tmp", "--follow"], "--follow"), (["nats", "--to", "/tmp", "--reload", "true"], "--reload"),
    (["nats", "--to", "/tmp", "--follow", "--reload", "true", "--reload-pid-file", "/x"], "--reload"),
    (["nats", "--to", "/tmp"], "--database-url"), (["nats", "--to", "/tmp", "--database-url", "mysql://x/y"], "--database-url"),
    (["rabbit"], "broker"), (["nats", "--topic-root", "a/+"], "--topic-root"),
    (["nats", "--homeassistant-prefix", "#"], "prefix")])
def test_settings_that_make_no_sense_name_themselves(arguments, named, capsys, monkeypatch, tmp_path):
    """Each is refused with exit status 2 and a line that names it, before anything is written."""
    monkeypatch.setenv("DRUMBEAT_DATA", str(tmp_path))
    assert cli.main(["acl", *arguments]) == 2
    assert named in capsys.readouterr().err


def test_a_database_that_is_away_is_told_without_its_password(capsys, tmp_path):
    """Writing once needs the database: without it exit status 1, one line, no secret, and no file."""
    assert cli.main(["acl", "nats", "--to", str(tmp_path), "--database-url", "postgresql://u:secret@127.0.0.1:1/x"]) == 1
    said = capsys.readouterr().err
    assert "database does not answer" in said
    assert "secret" not in said
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_told(capsys, tmp_path):
    """A command that has done its work says so; done again it has nothing to do."""
    for told in ("written", "as it should be"):
        assert cli.main(["acl", "emqx", "--to", str(tmp_path / "etc")]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/etc: {told}.\n"


@pytest.mark.parametrize("text", ["0", "-1", "1", "", "mosquitto"])
def test_a_pid_file_names_one_process(text, tmp_path):
    """0 and -1 would signal everybody, 1 is nobody's broker."""
    file = tmp_path / "broker.pid"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"no broker|invalid literal"):
        acl.read_pid(file)
    file.write_text("4711\n")
    assert acl.read_pid(file) == 4711


def test_a_user_without_rights_has_none():
    """To NATS an empty list would allow everything."""
    text = broker_files.nats_users([(Grant("service.x"), "$X_PASSWORD")], "")
    assert text.count('{ deny: [">"] }') == 2


@pytest.mark.parametrize(("user", "shown"), [
    ("service.ingest", "$INGEST_PASSWORD"), ("web-1", "$WEB_1_PASSWORD"), ("service.my-job", "$MY_JOB_PASSWORD")])
def test_variables_of_passwords(user, shown):
    """The variable has the name of the service, program or host."""
    assert broker_files.variable(user) == shown


HOSTS = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,8}\Z")
VERIFIERS = st.text("abc$/+=.0129", min_size=1)


@given(st.dictionaries(HOSTS, VERIFIERS), st.dictionaries(HOSTS, VERIFIERS), st.sets(HOSTS))
def test_the_password_file_has_the_issued_and_no_others(before, issued, own):
    """Services and one's own hosts keep their lines; every other agent is in it exactly when its credential is valid."""
    services = "service.ingest:$7$a\nservice.backup:$7$b\n"
    present = services + "".join(f"{host}:{word}\n" for host, word in before.items())
    text = broker_files.mosquitto_passwords(present, issued, sorted(own))
    found = dict(line.split(":", 1) for line in text.splitlines())
    assert text.startswith(services)
    kept = {host: word for host, word in before.items() if host in own}
    assert found == {"service.ingest": "$7$a", "service.backup": "$7$b", **kept,
                     **{host: word for host, word in issued.items() if host not in own}}
    assert broker_files.mosquitto_passwords(text, issued, sorted(own)) == text


def test_many_agents_are_reloaded_less_often():
    """What a reload costs NATS grows with the agents; a revoked one of 10,000 is out within half a minute all the same."""
    assert membership.spacing(10) < 2.1
    assert membership.spacing(10_000) <= 30

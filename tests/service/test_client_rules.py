"""`drumbeat rules` against the real API over a real Postgres."""

import json
import tomllib
from datetime import timedelta

import builders
import pytest
from builders import NOW

from aggregator.client import rules as command
from aggregator.store import rules

FILE = """
[[rule]]
name = "busy"
metric = "cpu.percent"
warning = 80
for = 20

[[rule]]
name = "low_memory"
metric = "memory.percent"
warning = 90
"""


@pytest.fixture
def run(api, data_directory, capsys):
    """Run the command against this API: (exit, output, errors)."""
    rules.ensure_packs(api.connection)
    environ = {"DRUMBEAT_API_URL": str(api.client.base_url), "DRUMBEAT_TOKEN": api.token, "DRUMBEAT_DATA": str(data_directory)}

    def go(*argv):
        code = command.main([str(one) for one in argv], environ)
        told = capsys.readouterr()
        return code, told.out, told.err

    return go


@pytest.fixture
def file(data_directory):
    path = data_directory / "rules.toml"
    path.write_text(FILE)
    return path


def test_a_file_is_planned_and_applied(api, run, file):
    """diff and apply show the same plan; afterwards there is nothing left to do; prune removes own rules only."""
    code, plan, _ = run("diff", file)
    assert code == 0
    assert "+ busy: cpu.percent >= warning 80" in plan
    assert "    warning: 80 → 90" in plan
    assert "1 to add, 1 to change, 0 to remove" in plan
    assert api.get("/alert-rules", q="busy")["total"] == 0
    assert run("apply", file, "--yes")[1].startswith(plan)
    assert api.get("/alert-rules/low_memory")["rule"]["critical"] is None
    assert run("apply", file)[1] == "0 to add, 0 to change, 0 to remove, 2 unchanged\n"
    file.write_text("prune = true\nrule = []\n")
    assert json.loads(run("diff", file, "--json")[1])["removed"] == ["busy"]
    run("apply", file, "--yes")
    assert api.get("/alert-rules", pack="")["total"] == 0
    assert api.get("/alert-rules/low_memory")["revision"] == 2


def test_nothing_is_applied_unasked(api, run, file):
    """Without a terminal and without --yes the plan is shown and nothing changes."""
    code, _, err = run("apply", file)
    assert (code, "--yes" in err) == (1, True)
    assert run("apply", file, "--json")[0] == 1
    assert api.get("/alert-rules", q="busy")["total"] == 0


def test_a_wrong_file_is_refused_whole(api, run, file):
    """A rule that is wrong is named with its field, and none of the file is applied."""
    file.write_text(FILE + '[[rule]]\nname = "odd"\nmetric = "cpu.precent"\nwarning = 1\n')
    code, _, err = run("apply", file, "--yes")
    assert code == 1
    assert "odd.metric" in err
    assert "did you mean cpu.percent" in err
    assert api.get("/alert-rules", q="busy")["total"] == 0
    code, out, _ = run("test", file)
    assert code == 1
    assert "odd.metric" in out
    assert "cannot be read" in run("diff", file.with_name("none.toml"))[2]


def test_rules_are_tried_on_history(api, run, file):
    """test says what each rule of a file would have done; preview does for a stored one."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [
        (NOW - timedelta(seconds=5 * n), {"cpu.percent": 90.0 if 20 <= n < 30 else 10.0}) for n in range(1, 100)])
    code, out, _ = run("test", file, "--range", "1h")
    assert code == 0
    assert next(line for line in out.splitlines() if line.startswith("busy")).split()[:5] == ["busy", "yes", "1", "1", "30s"]
    run("apply", file, "--yes")
    told = run("preview", "busy", "--range", "1h", "--host", "web-1")[1]
    assert "would have fired 1 time" in told
    assert "web-1" in told
    assert json.loads(run("preview", "busy", "--range", "1h", "--json", "--label", "site")[1])["hosts"] == 0


def test_rules_are_listed_and_shown(api, run, file):
    """The list has what each rule watches; show prints TOML that can be applied again, with the revisions as comments."""
    out = run("list")[1]
    assert "disk.percent{mount=*}" in out
    assert "container_stopped" in out
    assert json.loads(run("list", "--name", "high", "--json")[1])["total"] == 6
    shown = run("show", "low_disk")[1]
    assert "# revision 1" in shown
    assert tomllib.loads(shown)["rule"][0]["critical"] == 90
    file.write_text(shown)
    assert run("diff", file)[1].startswith("0 to add, 0 to change, 0 to remove")
    assert "no rule 'nothing'" in run("show", "nothing")[2]


def test_verbs(run):
    """A missing or unknown verb shows how it is used."""
    assert run()[0] == run("frobnicate")[0] == 2
    assert "usage: drumbeat rules list" in run("--help")[1]


@pytest.mark.parametrize("name", ["../tokens", "low_disk?format=csv", "low_disk/revisions", "\udcff"])
def test_a_name_stays_a_name(run, name):
    """What stands in place of a rule's name leads to no other address of the API."""
    code, told, errors = run("show", name)
    assert (code, told) == (1, "")
    assert "404" in errors

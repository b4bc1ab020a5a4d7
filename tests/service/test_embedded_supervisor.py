"""The supervisor with real processes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from compose import credentials, programs
from compose.output import Terminal
from compose.programs import Program
from compose.supervisor import Supervisor

SLEEPER = "import time; print('Traceback: something', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def _python(name, code, **options):
    return Program(name, [sys.executable, "-c", code], {}, **options)


@pytest.fixture
def supervisor(data_directory):
    return Supervisor(data_directory, Terminal(30))


def _is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_child_that_dies_is_restarted_and_said_so(supervisor, capfd, caplog, data_directory):
    """kill -9 of a child: the log tells how it died, its last words are shown, and it runs again."""
    caplog.set_level("WARNING", "drumbeat.up")
    child = supervisor.start(_python("sleeper", SLEEPER))
    first, stopping = child.process.pid, threading.Event()
    log_file = data_directory / "sleeper.log"

    def on_tick():
        if child.process.pid == first and log_file.read_text():
            child.process.kill()
        elif child.is_alive and child.process.pid != first:
            stopping.set()

    timer = threading.Timer(10, stopping.set)
    timer.start()
    supervisor.run(stopping, on_tick)
    timer.cancel()
    assert child.process.pid != first
    supervisor.stop(["sleeper"], lambda: False)
    assert "sleeper died, restarting" in caplog.text
    assert caplog.records[0].fields["cause"] == "killed by SIGKILL"
    assert "sleeper | Traceback: something" in capfd.readouterr().err
    assert _is_gone(child.process.pid)


def test_a_child_that_will_not_stop_is_killed_after_its_grace(supervisor, data_directory, eventually):
    """SIGKILL follows where SIGTERM is ignored; a hasty stop does not wait for the whole grace."""
    child = supervisor.start(_python("stubborn", STUBBORN, grace_seconds=60))
    eventually((data_directory / "stubborn.log").read_text, 5)
    supervisor.stop(["stubborn"], lambda: True)
    assert child.process.returncode == -signal.SIGKILL


def test_a_full_disk_does_not_hold_up_a_child(supervisor, capfd, data_directory, eventually):
    """Where its log file cannot be written a child is read on, so that it never stands still; that is said once."""
    (data_directory / "talker.log").symlink_to("/dev/full")
    child = supervisor.start(_python("talker", "for number in range(20_000): print('line', number, flush=True)"))
    eventually(lambda: not child.is_alive, 20)
    child.join_output()
    assert child.process.returncode == 0
    assert child.tail()[-1] == "line 19999"
    assert capfd.readouterr().err.count("its log file cannot be written: No space left on device") == 1


def test_children_die_with_a_killed_supervisor(eventually):
    """kill -9 of the parent leaves no orphan, though its child stands in a process group of its own."""
    code = (f"import sys, time; sys.path.insert(0, {str(Path.cwd())!r})\n"
            "from compose.programs import Program, spawn\n"
            f"child = spawn(Program('x', [{sys.executable!r}, '-c', 'import time; time.sleep(60)'], {{}}))\n"
            "print(child.pid, flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert not _is_gone(pid)
        parent.kill()
    eventually(lambda: _is_gone(pid), 5)


def test_a_data_directory_has_one_supervisor(data_directory):
    """A second one gets a line that names the first; the lock goes with its holder."""
    with credentials.locked(data_directory), \
            pytest.raises(credentials.DataDirectoryError, match=rf"process {os.getpid()}\) runs on"), \
            credentials.locked(data_directory):
        pass
    with credentials.locked(data_directory):
        pass


def test_secrets_are_kept_and_for_our_eyes_only(data_directory):
    """The second start has the passwords and the token of the first, in files that nobody else may read."""
    first = credentials.read_state(data_directory)
    assert credentials.read_state(data_directory) == first
    env = credentials.write_env(data_directory, {"DRUMBEAT_TOKEN": first.token})
    assert {path.stat().st_mode & 0o777 for path in (env, data_directory / "state.json")} == {0o600}
    assert env.read_text() == f"DRUMBEAT_TOKEN={first.token}\n"
    other = credentials.with_new_token(first)
    assert (other.token != first.token, other.passwords) == (True, first.passwords)


def test_a_program_that_cannot_be_started_is_an_error_at_once(supervisor):
    """A missing binary is told, not restarted for ever."""
    with pytest.raises(OSError, match="absent"):
        supervisor.start(Program("absent", ["/absent/binary"]))


def test_free_port_is_free_until_somebody_listens():
    """A port in use is known as such."""
    import socket
    port = programs.free_port()
    assert programs.is_port_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not programs.is_port_free(port)

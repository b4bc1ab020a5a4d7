"""The collectors on the machine that runs the tests."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agent_builders import collector_settings

from agent import once
from agent.collection import Collection
from agent.collectors import build, portable, procfs, system, systemd
from agent.collectors.processes import ProcessesCollector, Stat, Usage, top
from agent.collectors.sensors import SensorsCollector
from agent.inventory import read_inventory
from shared.catalogue import bounds, find
from shared.wire import Inventory, decode, encode

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here")


def assert_sound(metrics):
    for name, value in metrics.items():
        low, high = bounds(name)
        assert find(name) is not None, name
        assert low <= value <= high, name


def test_this_machine_gives_a_sound_sample():
    """Every metric of a real sample is in the catalogue and within its bounds, and a host has the figures of its score."""
    collectors = build(collector_settings())
    collection = Collection(collectors, budget_seconds=5)
    _, metrics = once.read_once(collection, sleep=lambda _: time.sleep(0.05))
    assert_sound(metrics)
    assert {"cpu.percent", "cpu.load1", "cpu.count", "memory.percent", "disk.percent", "disk.free_bytes",
            "processes.total", "system.uptime_seconds", "agent.memory_bytes"} <= metrics.keys()
    assert not [state for state in collection.states() if not state.up and not state.reason]
    told = read_inventory("web-1", {}, 0.0, collectors=collectors, states=collection.states())
    assert decode(Inventory, encode(told)).memory_bytes == metrics["memory.total_bytes"]
    collection.close()


def test_the_portable_collectors_agree_with_those_of_linux():
    """psutil's numbers, used where there is no /proc, are within the same bounds and of the same size."""
    makers = portable.makers(collector_settings())
    collection = Collection([make() for make in makers.values()], budget_seconds=5)
    _, metrics = once.read_once(collection, sleep=lambda _: time.sleep(0.05))
    assert_sound(metrics)
    assert metrics["memory.total_bytes"] == _memory_total()
    assert {"cpu.percent", "disk.percent", "system.uptime_seconds"} <= metrics.keys()
    collection.close()


def _memory_total():
    return procfs.number_after(procfs.read_text("/proc/meminfo").encode(), b"MemTotal:") * 1024


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_process_comes_works_and_goes():
    """A process that began since the previous listing counts from 0; one that ended is gone, and so are its descriptors."""
    collector = ProcessesCollector("web-1")
    collector.open()
    collector.collect(0.0, 100.0)
    before = descriptors()
    program = "x = sum(range(3_000_000)); print('done', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        reading = collector.collect(5.0, 105.0)
        found = next(one for one in reading.snapshots["processes"].processes if one.pid == child.pid)
        assert 0 < found.cpu_percent <= 100
        assert "sum(range(3_000_000))" in found.command
        assert found.memory_bytes > 1_000_000
        child.stdin.close()
    after = collector.collect(10.0, 110.0)
    assert child.pid not in [one.pid for one in after.snapshots["processes"].processes]
    assert descriptors() <= before + 4
    collector.close()
    assert collector.interval == 30.0


def test_a_reused_pid_is_a_new_process(tmp_path):
    """The same pid with another start time is another process: its CPU time is not compared with the former's."""
    def write(ticks, start):
        (tmp_path / "proc/9/stat").write_text(f"9 (x) S 1 9 9 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {start} 0 5 0")

    (tmp_path / "proc/9").mkdir(parents=True)
    collector = ProcessesCollector("web-1", str(tmp_path))
    write(1000, 50)
    collector.collect(0.0, 0.0)
    write(100, 77)
    shown = collector.collect(5.0, 5.0).snapshots["processes"].processes
    assert shown[0].cpu_percent == pytest.approx(100 / os.sysconf("SC_CLK_TCK") / 5 * 100)


def test_the_snapshot_holds_the_greatest_of_each_kind():
    """The greatest by CPU, by memory and by I/O are all there; what uses nothing is not."""
    def usage(pid, cpu, pages, io):
        return Usage(pid, Stat("x", "S", 1, 0, 1, 0, pages), cpu, io)

    chosen = top([usage(1, 5.0, 1, None), usage(2, 0.0, 9, 0), usage(3, 0.0, 2, 7), usage(4, 1.0, 1, 1), usage(5, 0, 0, 0)], 1)
    assert [one.pid for one in chosen] == [1, 2, 3]


def test_a_kept_file_is_read_whole_and_found_again(tmp_path):
    """A file longer than a page is read whole; one that was replaced under its name is opened anew after a failure."""
    file = tmp_path / "long"
    file.write_bytes(b"x" * 20_000)
    kept = procfs.KeptFile(str(file))
    assert len(kept.read()) == 20_000
    file.unlink()
    kept.close()
    with pytest.raises(FileNotFoundError):
        kept.read()
    file.write_bytes(b"back")
    assert kept.read() == b"back"
    kept.close()


def test_chips_of_the_same_name_are_told_apart(tmp_path):
    """Two disks with the same driver give two sensors; without any chip the thermal zones speak."""
    for number, millidegrees in ((0, 40_000), (1, 52_500)):
        chip = tmp_path / f"sys/class/hwmon/hwmon{number}"
        chip.mkdir(parents=True)
        (tmp_path / f"devices/nvme{number}").mkdir(parents=True)
        (chip / "name").write_text("nvme\n")
        (chip / "device").symlink_to(tmp_path / f"devices/nvme{number}")
        (chip / "temp1_input").write_text(f"{millidegrees}\n")
    collector = SensorsCollector("web-1", str(tmp_path))
    assert collector.open() is None
    assert collector.collect(0.0, 0.0).metrics == {
        "temperature.celsius": 52.5, "temperature.celsius{sensor=nvme-nvme0 temp1}": 40.0,
        "temperature.celsius{sensor=nvme-nvme1 temp1}": 52.5}


def test_thermal_zones_stand_in_for_chips(tmp_path):
    """A board without hwmon still has its thermal zones."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("61234\n")
    collector = SensorsCollector("web-1", str(tmp_path))
    assert collector.open() is None
    assert collector.collect(0.0, 0.0).metrics["temperature.celsius{sensor=thermal cpu-thermal 0}"] == 61.2


def test_failed_units(tmp_path):
    """Where systemd runs, each failed unit is a 1; where it does not, that is said."""
    assert systemd.Systemd(str(tmp_path)).open() == "systemd does not run here"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    collector = systemd.Systemd(str(tmp_path), ask=lambda: "a.service loaded failed failed A\n")
    assert collector.open() is None
    assert collector.collect(0.0, 0.0).metrics == {"systemd.unit_failed{unit=a.service}": 1}


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_a_systemctl_that_complains_is_an_error():
    """Where systemctl cannot answer, its own words are the error; no failed unit is not claimed."""
    with pytest.raises((RuntimeError, FileNotFoundError), match="systemctl"):
        systemd.read_failed()


def test_the_kernels_clock_is_off_by_little_or_not_known():
    """adjtimex answers in seconds: on a machine with NTP less than half a second, else nothing."""
    offset = system.KernelClock().offset()
    assert offset is None or abs(offset) <= 0.5


def test_the_table_of_one_sample(capsys):
    """The table shows values with their units, and what is missing with the reason."""
    states = Collection(build(collector_settings(collectors=("gpu",)))).states()
    once.print_sample("web-1", {"memory.total_bytes": 8 * 2**30, "cpu.percent": 45.25, "disk.percent{mount=/[x]}": 100.0}, states)
    printed = capsys.readouterr().out
    assert "web-1: 3 metrics" in printed
    assert "8.0 GiB" in printed
    assert "45.25 %" in printed
    assert "disk.percent{mount=/[x]}" in printed
    assert "gpu: not asked yet" in printed


@pytest.mark.parametrize("columns", [40, 80, 130])
def test_no_name_is_cut_on_a_narrow_terminal(capsys, monkeypatch, columns):
    """However narrow the terminal, every letter of every name is there, and every value whole."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "disk.used_bytes{mount=/srv/" + "".join(chr(ord("a") + at % 26) for at in range(90)) + "}"
    once.print_sample("web-1", {name: 8 * 2**30, "network.receive_bytes_per_second": 1536.0}, [])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= columns
    assert name in "".join(line.split()[0] for line in lines)
    assert any("1.5 KiB/s" in line for line in lines)


@pytest.mark.parametrize(("name", "value", "text"), [
    ("network.receive_bytes_per_second", 1536.0, "1.5 KiB/s"), ("system.uptime_seconds", 93_784.0, "1 d 2 h 3 min"),
    ("temperature.celsius", 45.0, "45 °C"), ("cpu.frequency_mhz", 2596.0, "2,596 MHz"), ("custom.x", 0.5, "0.5"),
    ("processes.total", 0.0, "0")])
def test_values_for_people(name, value, text):
    """A value is shown with its unit."""
    assert once.shown(name, value) == text

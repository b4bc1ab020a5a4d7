"""Every collector over a recorded /proc and /sys, compared with one expected sample."""

import json
import os
import shutil
from pathlib import Path

import pytest
from agent_builders import collector_settings

from agent.collection import Collection
from agent.collectors import build
from agent.collectors.filesystem import Filesystem
from agent.collectors.own import Own
from agent.inventory import read_inventory
from shared.catalogue import bounds, find
from shared.wire import Inventory, Processes, Sensors, decode, encode

GOLDEN = Path(__file__).parent.parent / "golden"
FILLS = {"": (1000, 400, 300, 500, 400), "data": (2000, 100, 100, 900, 800), "with blank": (10, 9, 9, 0, 0)}


@pytest.fixture
def recorded(tmp_path):
    """A copy of the recorded tree in its first state; a function brings it to the second."""
    root = tmp_path / "host"
    shutil.copytree(GOLDEN / "host" / "before", root)
    return root, lambda: shutil.copytree(GOLDEN / "host" / "after", root, dirs_exist_ok=True)


def collectors_of(root):
    def statvfs(path):
        place = os.path.relpath(path, root)
        blocks, free, available, files, files_free = FILLS["" if place == "." else place]
        return os.statvfs_result((4096, 4096, blocks, free, available, files, files_free, files_free, 0, 255))

    replaced = {"filesystem": Filesystem(str(root), statvfs=statvfs),
                "agent": Own(str(root), used_ns=iter([1_000_000, 26_000_000]).__next__)}
    return [replaced.get(one.name, one) for one in build(collector_settings(), str(root))]


def test_the_whole_sample(recorded):
    """Two readings of a recorded machine, five seconds apart, give exactly the expected metrics."""
    root, advance = recorded
    ticking = iter(range(1000))
    collectors = collectors_of(root)
    collection = Collection(collectors, clock=lambda: next(ticking) * 0.001, budget_seconds=5)
    collection.collect(1_763_100_000.0, 100.0)
    advance()
    metrics, snapshots = collection.collect(1_763_100_005.0, 105.0)
    stable = {name: value for name, value in metrics.items() if "_seconds{collector" not in name and "collect_s" not in name}
    document = {"metrics": stable, "processes": json.loads(encode(snapshots["processes"]))}
    assert all(one.pop("user") for one in document["processes"]["processes"])  # whoever runs the test owns the tree
    expected = GOLDEN / "sample.json"
    if os.environ.get("DRUMBEAT_GOLDEN") == "write":
        expected.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    assert document == json.loads(expected.read_text())
    for name, value in metrics.items():
        low, high = bounds(name)
        assert find(name) is not None, name
        assert low <= value <= high, name
    decode(Processes, encode(snapshots["processes"]))
    collection.close()


def test_the_first_reading_has_no_rates(recorded):
    """Before there are two readings there is no rate and no share of time, rather than a 0."""
    root, _ = recorded
    collection = Collection(collectors_of(root), budget_seconds=5)
    metrics, snapshots = collection.collect(1_763_100_000.0, 100.0)
    assert "cpu.percent" not in metrics
    assert not [name for name in metrics if "per_second" in name]
    assert metrics["memory.percent"] == 37.5
    sensors = decode(Sensors, encode(snapshots["sensors"]))
    assert [(one.label, one.current, one.high, one.critical) for one in sensors.sensors] == [
        ("Package id 0", 45.0, 80.0, 100.0), ("fan1", 1200, None, None)]
    collection.close()


def test_the_inventory(recorded):
    """The inventory tells what the host is, and why a collector is off."""
    root, _ = recorded
    collectors = collectors_of(root)
    collection = Collection(collectors, budget_seconds=5)
    collection.collect(1_763_100_000.0, 100.0)
    told = read_inventory("web-1", {"rack": "a"}, 1_763_100_000.0, collectors=collectors, states=collection.states(),
                          root=str(root))
    told = decode(Inventory, encode(told))
    assert (told.os, told.cpu_model, told.cpu_count, told.cpu_cores) == ("Example OS 1", "Example CPU", 2, 2)
    assert [mount.mount for mount in told.mounts] == ["/", "/data", "/with blank"]
    assert [(one.name, one.mac, one.speed_mbps) for one in told.interfaces] == [("eth0", "02:00:00:00:00:01", 1000)]
    assert "fd00::2" in told.interfaces[0].addresses
    assert {one.name: one.reason for one in told.collectors if not one.up}.keys() == {"gpu", "docker", "systemd"}
    assert told.virtualization == "virtual machine"
    collection.close()


def test_a_disk_and_an_interface_plugged_in_while_running(recorded):
    """What is plugged in is measured from its second reading, without a spike and without disturbing the others."""
    root, advance = recorded
    collection = Collection(collectors_of(root)[:5], budget_seconds=5)
    collection.collect(0.0, 100.0)
    advance()
    (root / "sys/block/sdz").mkdir()
    (root / "sys/block/sdz/device").touch()
    with (root / "proc/diskstats").open("a") as file:
        file.write("   8      64 sdz 100000 0 9000000 100 0 0 0 0 0 100 100\n")
    metrics, _ = collection.collect(5.0, 105.0)
    assert "disk.busy_percent{device=sdz}" not in metrics
    assert metrics["disk.busy_percent{device=sda}"] == 50.0
    metrics, _ = collection.collect(10.0, 110.0)
    assert metrics["disk.busy_percent{device=sdz}"] == 0.0
    collection.close()


def test_an_unknown_collector_is_refused():
    """A misspelt name of a collector says which are allowed."""
    with pytest.raises(ValueError, match="no collector 'cpus'; allowed: cpu, memory"):
        build(collector_settings(collectors=("cpus",)))

"""Each parser of /proc, with a literal."""

import os

import pytest

from agent.collectors import cpu, disk, filesystem, memory, network, own, processes, procfs, sensors, system, systemd


def test_cpu_stat_of_an_old_kernel_lacks_fields():
    """Fields that a kernel does not have are 0, the sum over CPUs is not a CPU."""
    found = cpu.stat(b"cpu  1 2 3 4\ncpu0 1 2 3 4\nintr 77 1 2\nctxt 99\n")
    assert found == cpu.Stat({"cpu": (1, 2, 3, 4, 0, 0, 0, 0), "cpu0": (1, 2, 3, 4, 0, 0, 0, 0)}, 99, 77)


def test_cpu_shares():
    """Shares are of all time passed; idle and waiting for I/O are both not busy; guest time is within user time."""
    assert cpu.shares((0,) * 8, (40, 10, 15, 20, 5, 2, 3, 5)) == {
        "percent": 75.0, "user_percent": 50.0, "system_percent": 20.0, "iowait_percent": 5.0, "steal_percent": 5.0}


def test_cpu_shares_when_a_counter_steps_back():
    """iowait that steps back counts as 0; user time that steps back is a reset and gives nothing, as does no time."""
    before = (100, 0, 100, 100, 50, 0, 0, 0)
    assert cpu.shares(before, (150, 0, 100, 150, 40, 0, 0, 0)) == {
        "percent": 50.0, "user_percent": 50.0, "system_percent": 0.0, "iowait_percent": 0.0, "steal_percent": 0.0}
    assert cpu.shares(before, (10, 0, 200, 200, 60, 0, 0, 0)) is None
    assert cpu.shares(before, before) is None


def test_cpu_frequencies():
    """Where there is no cpufreq, /proc/cpuinfo tells."""
    assert cpu.frequencies("processor: 0\ncpu MHz\t\t: 2596.140\nx: y\ncpu MHz\t\t: 800.5") == [2596.14, 800.5]


def test_memory_without_memavailable_and_swap():
    """A kernel before 3.14 gives free, cache and buffers as available; without swap there is no share of it."""
    info = memory.meminfo(b"MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 250 kB\nSwapTotal: 0 kB\n"
                          b"SwapFree: 0 kB\n")
    metrics = memory.usage(info)
    assert metrics["memory.available_bytes"] == 400 * 1024
    assert metrics["memory.percent"] == 60.0
    assert metrics["swap.total_bytes"] == 0
    assert "swap.percent" not in metrics


def test_disk_traffic_is_bounded_and_an_idle_disk_waits_0_ms():
    """Busy time measured a little longer than the interval is 100 %; without requests the wait is 0, not absent."""
    steps = {"sda": (4, 80, 30, 6, 160, 20, 5100), "sdb": (0, 0, 0, 0, 0, 0, 0)}
    assert disk.traffic(5.0, steps) == {"sda": (8192, 16384, 100.0, 5.0), "sdb": (0, 0, 0.0, 0.0)}


def test_diskstats_of_an_old_kernel_and_a_torn_line():
    """14 columns are enough; a line that is cut is left out."""
    text = b"   8  0 sda 1 2 3 4 5 6 7 8 9 10 11\n   8 16 sdb 1 2\n"
    assert disk.diskstats(text) == {"sda": (1, 3, 4, 5, 7, 8, 10)}


def test_interface_names_may_hold_a_colon():
    """An alias `eth0:1` is one name, and numbers may stick to the colon."""
    row = b"1 2 3 4 0 0 0 0 9 10 11 12 0 0 0 0"
    assert network.interfaces(b"head\nhead\neth0:1:" + row + b"\n") == {"eth0:1": (1, 9, 2, 10, 14, 16)}


def test_errors_without_packets_stay_within_100_percent():
    """Drops on an interface without any packet are a hundred percent, not a division by zero."""
    found = network.totals(5.0, {"eth0": (0, 0, 0, 0, 0, 9)})
    assert (found["network.drop_percent"], found["network.error_percent"]) == (100.0, 0.0)


def test_tcp_figures_are_absent_where_the_kernel_has_none():
    """Empty files give no numbers."""
    assert network.tcp(b"", b"") == ({}, None)
    assert network.tcp(b"Tcp: CurrEstab RetransSegs\nTcp: 7 9\n", b"TCP: inuse 1 orphan 0 tw 4 alloc 2 mem 1\n") == (
        {"network.tcp_established": 7, "network.tcp_time_wait": 4}, 9)


def test_mount_points_hidden_by_others_and_with_blanks():
    """The last mount on a place hides the others; octal escapes are undone."""
    found = filesystem.mount_points(b"/dev/a /x ext4 rw 0 0\n/dev/b /y\\040z xfs rw 0 0\n/dev/c /x xfs rw 0 0\n")
    assert [(point.device, point.mount) for point in found] == [("/dev/b", "/y z"), ("/dev/c", "/x")]


@pytest.mark.parametrize(("include", "exclude", "mounts"), [
    ((), (), ["/", "/data"]),
    (("/nfs*",), (), ["/", "/data", "/nfs"]),
    ((), ("/data",), ["/", "/bound"]),
    (("/run",), ("/", "/data", "/bound"), ["/run"]),
])
def test_which_mounts_count(include, exclude, mounts):
    """Real file systems, one mount each, and `/` of whatever type; patterns change that, and an exclusion wins."""
    points = filesystem.mount_points(b"overlay / overlay rw 0 0\n/dev/a /data ext4 rw 0 0\n/dev/a /bound ext4 rw 0 0\n"
                                     b"tmpfs /run tmpfs rw 0 0\n/dev/loop0 /snap/x squashfs ro 0 0\ns:/x /nfs nfs4 rw 0 0\n")
    assert [point.mount for point in filesystem.chosen(points, include, exclude)] == mounts


def test_fill_counts_what_users_may_use():
    """Blocks reserved for root are neither used nor free, as `df` has it; a file system without inodes has no share."""
    stat = os.statvfs_result((4096, 4096, 1000, 400, 300, 0, 0, 0, 0, 255))
    assert filesystem.fill(stat) == (66.7, 600 * 4096, 300 * 4096, None)
    assert filesystem.fill(os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))) is None


def test_the_core_figures_are_of_one_and_the_same_mount():
    """disk.free_bytes belongs to the fullest mount, not to the one with the least bytes."""
    found = filesystem.metrics({"/": (90.0, 900, 100, 1.0), "/boot": (10.0, 1, 9, 50.0)})
    assert (found["disk.percent"], found["disk.free_bytes"], found["disk.inodes_percent"]) == (90.0, 100, 50.0)


def test_process_names_may_hold_anything():
    """The name ends at the last parenthesis."""
    text = b"7 (a) (b c)) R 1 7 7 0 -1 0 0 0 0 0 11 22 0 0 20 0 3 0 999 1 42 1 1"
    assert processes.stat(text) == processes.Stat("a) (b c)", "R", 1, 33, 3, 999, 42)


def test_command_lines_hold_no_secrets():
    """What looks like a password, token or key, or stands in a URL, is blotted out; what cannot be printed is a blank."""
    line = processes.command_line(b"/bin/x\0--password=hunter2\0--api-key\0k1\0mqtt://me:pw@h/\0a\nb\0")
    assert line == "/bin/x --password=*** --api-key *** mqtt://me:***@h/ a b"


def test_users_in_utmp():
    """Only records of user processes count; a torn one does not."""
    record = (7).to_bytes(2, "little") + bytes(382)
    assert system.users(record + bytes(384) + record + b"torn") == 2


@pytest.mark.parametrize(("state", "status", "offset", "seconds"), [
    (0, 0x2000, 1_500_000, 0.0015), (0, 0, 1_500, 0.0015), (5, 0x2040, 0, None), (-1, 0, 0, None)])
def test_clock_offset(state, status, offset, seconds):
    """Nanoseconds where the status says so, else microseconds; absent where nothing keeps the clock."""
    assert system.clock_offset(state, status, offset) == seconds


@pytest.mark.parametrize(("kind", "text", "number"), [
    ("temperature", "45500", 45.5), ("temperature", "-128000", None), ("temperature", "", None),
    ("temperature", "nonsense", None), ("fan", "0", 0), ("fan", "-1", None)])
def test_sensor_values(kind, text, number):
    """A sensor without an answer, or with an absurd one, gives no number; a fan that stands still gives 0."""
    assert sensors.value(kind, text) == number


def test_systemd_units():
    """The first word of each line is the unit."""
    assert systemd.failed_units("a.service loaded failed failed A thing\nb.mount  loaded failed failed B\n\n") == [
        "a.service", "b.mount"]


def test_small_parsers():
    """Pressure, numbers after a word, resident memory."""
    assert procfs.pressure(b"some avg10=12.55 avg60=1 avg300=1 total=1\n") == {"some": 12.6}
    assert procfs.pressure(b"") == {}
    assert procfs.number_after(b"ab 3\nb 7\n", b"b") == 7
    assert procfs.number_after(b"b 7\n", b"c") is None
    assert own.resident_bytes(b"3000 2000 500 1 0 400 0\n", 4096) == 8_192_000


def test_labels_are_printable():
    """A name from outside becomes a label that the grammar of metric names takes."""
    assert procfs.label(b"a\xff\xc2\xa0b\x00 ") == "a\ufffd_b_"
    assert procfs.label("") == "_"

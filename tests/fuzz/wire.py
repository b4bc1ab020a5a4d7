"""`make fuzz SECONDS=60`: atheris drives every entry point of the wire (`wire_targets`), guided by what of the code is reached.

Each target runs in a process of its own for its share of the seconds, from the valid messages on. The first input that a target
does not survive is kept in the folder that is printed; `python tests/fuzz/wire.py TARGET FILE` runs it again. The last line is
a JSON object: seed, seconds, inputs by target, found.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
INSTRUMENTED = ["shared.wire", "shared.topics", "shared.names", "shared.slices", "shared.bus", "aggregator.ingest.intake",
                "aggregator.ingest.writers", "aggregator.live", "agent.tasks", "agent.remote_config", "agent.delivery",
                "scheduler.hearing"]
LONGEST = 4096
"""Bytes of an input; what is longer has tests of its own."""
WITHOUT_ATHERIS = "atheris is not installed here: pip install 'drumbeat[fuzz]' (Linux, Python 3.11 to 3.13)"


def fuzz(name: str, folder: Path, seconds: int, seed: int) -> None:
    """One target, in this process, until the time is up; does not return."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import wire_targets

    for i, valid in enumerate(wire_targets.VALID):
        (folder / f"valid-{i}").write_bytes(valid)
        (folder / f"kind-{i}").write_bytes(bytes([i % 9, 0]) + valid)
    atheris.Setup([sys.argv[0], str(folder), f"-seed={seed}", f"-max_total_time={seconds}", f"-max_len={LONGEST}",
                   f"-artifact_prefix={folder}/found-", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"],
                  wire_targets.TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int, seed: int) -> tuple[int, str]:
    """(inputs, what was found) of one target."""
    folder = Path(tempfile.mkdtemp(prefix=f"drumbeat-fuzz-{name}-"))
    done = subprocess.run([sys.executable, str(HERE), "one", name, str(folder), str(seconds), str(seed)], capture_output=True,
                          text=True, errors="replace", check=False)
    counted = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    if done.returncode or counted is None:
        print(done.stderr[-6000:], file=sys.stderr)
        return int(counted[1]) if counted else 0, str(next(folder.glob("found-*"), folder))
    return int(counted[1]), ""


def main(argv: list[str]) -> int:
    if argv[:1] == ["one"]:
        fuzz(argv[1], Path(argv[2]), int(argv[3]), int(argv[4]))
        return 0
    import wire_targets

    if argv and argv[0] in wire_targets.TARGETS:
        wire_targets.TARGETS[argv[0]](Path(argv[1]).read_bytes())
        return 0
    try:
        import atheris  # noqa: F401 (only whether it is there)
    except ImportError:
        print(WITHOUT_ATHERIS, file=sys.stderr)
        return 2
    asked = dict(pair.split("=", 1) for pair in argv)
    seconds, seed = int(asked.get("seconds") or 60), int(asked.get("seed") or int.from_bytes(os.urandom(3), "big") + 1)
    share, inputs, found = max(1, seconds // len(wire_targets.TARGETS)), {}, {}
    for name in wire_targets.TARGETS:
        inputs[name], kept = run(name, share, seed)
        print(f"{name}: {inputs[name]} inputs{f', found: {kept}' if kept else ''}", flush=True)
        if kept:
            found[name] = kept
    print(json.dumps({"seed": seed, "seconds": share * len(inputs), "inputs": inputs, "found": found}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The distribution."""

import subprocess
import sys
from pathlib import Path


def test_wheel_holds_our_packages_and_nothing_else():
    """Generic package names are a promise: agent, aggregator, scheduler, shared and compose, and nothing more."""
    check = Path(__file__).parents[2] / ".ci" / "check_wheel.py"
    done = subprocess.run([sys.executable, check, "--build-only"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "top level ['agent', 'aggregator', 'compose', 'drumbeat-" in done.stdout

"""Build the wheel, hold its top level to our packages, and try the agent in an environment of its own.

`python .ci/check_wheel.py`; with `--build-only` nothing is installed (and nothing downloaded).
"""  # noqa: INP001 (a script)

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"agent", "aggregator", "scheduler", "shared", "compose"}
DATA_FILES = {"shared/migrations/env.py", "shared/migrations/versions/0001_spine.py"}
SERVER_ONLY = ("sqlalchemy", "psycopg", "fastapi", "uvicorn", "numpy", "alembic", "pydantic", "prometheus_client")


def build(directory: Path) -> Path:
    """The wheel, built with the hatchling that is installed here."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, ROOT)
    return next(directory.glob("drumbeat-*.whl"))


def check_contents(wheel: Path) -> None:
    """Exits where the wheel holds a package too many or lacks one, or a file that is read at run time."""
    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.partition("/")[0] for name in names}
    odd = {name for name in top if not name.endswith(".dist-info")} ^ PACKAGES
    if odd or not names >= DATA_FILES:
        sys.exit(f"{wheel.name}: top level differs in {sorted(odd)}; missing {sorted(DATA_FILES - names)}")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size // 1024} kB, top level {sorted(top)}")


def check_agent(wheel: Path, directory: Path) -> None:
    """Install the extra `agent` alone: one sample must come out, and no server package may be importable."""
    run(sys.executable, "-m", "venv", directory / "venv")
    python = directory / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[agent]")
    found = run(python, "-c", f"import importlib.util as u; print(*[n for n in {SERVER_ONLY!r} if u.find_spec(n)])")
    if found.strip():
        sys.exit(f"the agent's environment holds server packages: {found.strip()}")
    sample = json.loads(run(python.parent / "drumbeat", "agent", "--once", "--json", "--data", directory / "data"))
    print(f"agent alone: {len(sample['metrics'])} metrics of {sample['host']}")


def run(*argv: object) -> str:
    """The output of a program; exits with its words where it fails."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DRUMBEAT_", "PYTHONPATH"))}
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(str(arg) for arg in argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="drumbeat-wheel-") as name:
        built = build(Path(name))
        check_contents(built)
        if "--build-only" not in sys.argv:
            check_agent(built, Path(name))

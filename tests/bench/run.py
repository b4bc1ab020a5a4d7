"""`make bench`: list the benchmarks, or run one. Each prints its table, and as its last line one JSON object of its figures.

A benchmark is a module of this folder with `main(arguments) -> dict`; `KEY=value` on the command line or in the environment
are its arguments (`make bench NAME=ingest ARGS="hosts=500"`).
"""

import ast
import importlib
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
NOT_BENCHMARKS = {"run", "rig", "anomaly_plot"}


def listing():
    """Name and first line of every benchmark."""
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem not in NOT_BENCHMARKS:
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"  {path.stem:10} {text.splitlines()[0] if text else ''}")


def main(argv):
    """The exit status."""
    if not argv:
        print("make bench NAME=… runs one of:")
        listing()
        return 0
    name, *pairs = argv
    if not (FOLDER / f"{name}.py").exists() or name in NOT_BENCHMARKS:
        print(f"no benchmark {name!r}; there are:", file=sys.stderr)
        listing()
        return 2
    sys.path.insert(0, str(FOLDER))
    arguments = dict(pair.split("=", 1) for pair in pairs)
    figures = importlib.import_module(name).main(arguments)
    print(json.dumps(figures))
    return 1 if figures.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

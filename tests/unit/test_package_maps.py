"""A package's docstring is the map of its rooms."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for name in ("agent", "aggregator", "scheduler", "shared", "compose")
                  for path in (ROOT / name).rglob("__init__.py") if "\n* `" in path.read_text())


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_every_room_is_on_the_map(package: Path) -> None:
    """Where the docstring of a package names its modules, it names them all: a new line finds its home there."""
    told = (package / "__init__.py").read_text()
    rooms = [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    assert [room for room in rooms if f"`{room}`" not in told and f"`{room}/`" not in told] == []

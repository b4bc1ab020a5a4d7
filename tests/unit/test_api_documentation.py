"""/docs, made from the OpenAPI document."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from aggregator.api import documentation

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "openapi.json").read_text())


def test_every_route_and_parameter_is_on_the_page() -> None:
    """The page shows each route with its parameters, and loads nothing from elsewhere."""
    page = documentation.page(GOLDEN)
    for path, methods in GOLDEN["paths"].items():
        assert f"<code>{path}</code>" in page
        for operation in methods.values():
            assert all(f"<code>{one['name']}</code>" in page for one in operation.get("parameters", ()))
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=[\"']?(?:[a-z]+:)?//|url\(|@import", page)


def test_texts_are_escaped() -> None:
    """What stands in the document as text cannot become markup."""
    document = {"info": {"title": "<i>", "version": "1", "description": "a <b> `c<d`"}, "tags": [], "paths": {}}
    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            found.append(tag)

    Tags().feed(documentation.page(document))
    assert "b" not in found
    assert "i" not in found

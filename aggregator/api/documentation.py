"""The OpenAPI document as one page of HTML for people. Pure; no scripts, nothing from elsewhere."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Document = Mapping[str, Any]

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:14px/1.4 ui-monospace,monospace;background:#8882;border-radius:4px;padding:.1em .3em}
pre{padding:.7em;overflow-x:auto}h3 code{font-size:16px}table{border-collapse:collapse;width:100%}
td{border-top:1px solid #8884;padding:.25em .6em .25em 0;vertical-align:top}:root{color-scheme:light dark}
b.get{color:#16803c}b.put,b.post{color:#b45309}b.delete{color:#b91c1c}nav a{margin-right:1em}"""


POLICY = ("default-src 'none'; frame-ancestors 'none'; style-src "
          f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'")
"""Content-Security-Policy of the page: its own style, and nothing else."""


def page(document: Document) -> str:
    """HTML of a whole OpenAPI document: every route by tag, with its parameters and an example of its answer."""
    return "".join(_parts(document))


def _parts(document: Document) -> Iterator[str]:
    info = document["info"]
    yield (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
           f"<title>{escape(info['title'])} {escape(info['version'])}</title><style>{STYLE}</style>"
           f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_prose(info['description'])}</p>"
           '<p>Machines read <a href="openapi.json">openapi.json</a>.</p><nav>')
    tags = [tag["name"] for tag in document["tags"]]
    yield "".join(f'<a href="#{tag}">{tag}</a>' for tag in tags) + "</nav>"
    for tag in document["tags"]:
        yield f"<h2 id=\"{tag['name']}\">{escape(tag['description'])}</h2>"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation.get("tags", ()):
                    yield from _operation(document, path, method, operation)


def _operation(document: Document, path: str, method: str, operation: Document) -> Iterator[str]:
    yield f'<h3><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code></h3>'
    yield f"<p>{_prose(operation.get('description', ''))}</p>"
    if parameters := operation.get("parameters"):
        yield "<table>" + "".join(_parameter(one) for one in parameters) + "</table>"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if (example := _example(document, body)) is not None:
        yield f"<p>Body:</p><pre>{escape(_json(example))}</pre>"
    for content in operation["responses"].get("200", operation["responses"].get("201", {})).get("content", {}).values():
        example = content.get("example", _example(document, content.get("schema")))
        if example is not None:
            yield f"<pre>{escape(example if isinstance(example, str) else _json(example))}</pre>"


def _parameter(parameter: Document) -> str:
    schema = parameter["schema"]
    options = [schema, *schema.get("anyOf", ()), schema.get("items", {})]
    values = next((option["enum"] for option in options if "enum" in option), ())
    facts = [f"one of {', '.join(map(str, values))}"] if values else []
    facts += [f"{word} {option[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) for option in options
              if key in option]
    facts += [f"default {schema['default']}"] if schema.get("default") not in (None, "", []) else []
    needed = " (required)" if parameter.get("required") else ""
    text = _prose(parameter.get("description", "")) + (f" <small>{escape('; '.join(facts))}</small>" if facts else "")
    return f"<tr><td><code>{escape(parameter['name'])}</code>{needed}<td>{text}"


def _example(document: Document, schema: Document | None) -> Any:
    if schema is None:
        return None
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema.get("example", next(iter(schema.get("examples", ())), None))


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)).replace("\n\n", "<p>")


def _json(example: Any) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)

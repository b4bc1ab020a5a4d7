"""schemathesis: data made from the OpenAPI document, fitting and not, sent to every route of the real API on a real database.

`DRUMBEAT_EXAMPLES=200` asks each route more often than usual.
"""

import json
import os
from typing import Any

import alert_rows
import api_client
import builders
import hypothesis
import pytest
import schemathesis
from api_client import Api
from builders import NOW
from hypothesis import strategies
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

EXAMPLES = int(os.environ.get("DRUMBEAT_EXAMPLES", "10"))
CHECKS = [schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
          checks.response_schema_conformance, checks.response_headers_conformance, checks.unsupported_method]
KNOWN = {"host": "web-1", "rule": "low_disk", "alert": 1, "schedule": "retention", "profile": "default", "name": "web"}
SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck))

SCHEMA = schemathesis.openapi.from_dict(json.loads(api_client.openapi()))
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}


@pytest.fixture(scope="module")
def filled(api_server: Api) -> Api:
    """The module's API with a host, an alert and the rules that come with it."""
    host = builders.store_host(api_server.connection)
    builders.store_samples(api_server.connection, host, [(NOW, {"cpu.percent": 12.5, "memory.percent": 41.0})])
    alert_rows.store_alert(api_server.connection, host)
    return api_server


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_documented(filled: Api, label: str) -> None:
    """No fault of ours, no status, form or header that the document does not name, whatever is asked."""
    operation = OPERATIONS[label]
    cases = strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @SETTINGS
    @hypothesis.given(case=cases, is_known=strategies.booleans())
    def ask(case: Any, is_known: bool) -> None:
        if is_known and case.path_parameters:
            case.path_parameters = dict(case.path_parameters) | {
                name: value for name, value in KNOWN.items() if name in case.path_parameters}
        case.call_and_validate(base_url=str(filled.client.base_url), headers={"Authorization": f"Bearer {filled.token}"},
                               checks=CHECKS)

    ask()

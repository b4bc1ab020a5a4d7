"""What alerts say: templates are filled, never fail, and can do nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.analysis import messages
from aggregator.analysis.rules import Rule

DISK = Rule(name="low_disk", metric="disk.percent{mount=*}", warning=80.0)


@pytest.mark.parametrize(("text", "shown"), [
    ("{{ mount }}: {{ value|percent }}", "/var: 91.2 %"), ("{{ host }} {{ severity|upper }}", "web-1 WARNING"),
    ("{{ metric }}", "disk.percent{mount=/var}"), ("{{ instance }}", "mount=/var"), ("{{ value|round(2) }}", "91.23"),
    ("{{ threshold|measure(measured_in) }}", "80 %"), ("{{ target|default('none') }}", "none"), ("{{ nothing }}!", "!"),
    ("", ""), ("{{ value|round(99) }}", "91.234000000")])
def test_templates_are_filled(text: str, shown: str) -> None:
    """A template names the figures of the moment and the labels of the instance."""
    fields = messages.fields_of(DISK, host="web-1", severity="warning", instance="mount=/var", value=91.234, threshold=80.0,
                                text="")
    assert messages.render(text, **fields) == shown


@pytest.mark.parametrize(("shown", "value"), [
    ("1 d 1 h", 90_061), ("1 m 30 s", 90), ("0.25 s", 0.25), ("-2 h", -7200), ("unlimited", float("inf")), ("", None),
    ("x", "x")])
def test_durations(shown: str, value: Any) -> None:
    """The two largest units; what is no number stays as it is."""
    assert messages.duration(value) == shown


@pytest.mark.parametrize(("value", "unit", "shown"), [
    (1536, "bytes", "1.5 KiB"), (2**42, "bytes/s", "4.0 TiB/s"), (71.26, "celsius", "71.3 °C"), (12345.6, "count", "12346"),
    (0.00123, "", "0.00123"), (12.5, "percent", "12.5 %"), (600, "s", "10 m"), (None, "percent", ""), (3, "1/s", "3 1/s")])
def test_measures(value: Any, unit: str, shown: str) -> None:
    """A value is shown in its unit, with 3 digits."""
    assert messages.measure(value, unit) == shown


@pytest.mark.parametrize("text", [
    "{% for x in host %}{{ x }}{% endfor %}", "{{ host.__class__ }}", "{{ host['x'] }}", "{{ 'a' * 999999999 }}",
    "{{ 9 ** 9 ** 9 }}", "{{ range(9) }}", "{{ host|center(999999999) }}", "{{ host|replace('a', 'aaaa') }}", "{{ [1] }}",
    "{% include 'x' %}", "{{ host",
    "{% set x = 1 %}", "{{ value if host }}", "{{ value|round(1, 2, 3) }}",
    "{{ host|json|json }}", "{{ host|upper|json|lower|json }}", "{{ nothing|default(host|json)|json }}",
    "{{ " + "9" * 4400 + " }}", "{{ value|round(1e999) }}",
    "{{ host|default(*host) }}", "{{ host|default(**host) }}", "{{ '\ud800'|json }}",
    "{{ " + "(" * 400 + "host" + ")" * 400 + " }}"])
def test_templates_can_do_nothing_else(text: str) -> None:
    """Loops, arithmetic, attributes, calls, other filters and text that doubles are refused; at run time they are shown."""
    with pytest.raises(messages.TemplateError):
        messages.names(text)
    assert messages.render(text, host="web-1") == (text if len(text) <= messages.LONGEST else f"{text[:messages.LONGEST - 1]}…")


@given(st.text(alphabet="{}%|() 'abvalue_.0123", max_size=60), st.none() | st.floats() | st.text(max_size=5))
def test_rendering_never_fails(template: str, value: Any) -> None:
    """Whatever the template and the value, there is a text."""
    assert len(messages.render(template, value=value)) <= messages.LONGEST


@pytest.mark.parametrize("rule", [
    DISK, Rule(name="a", kind="rate", metric="cpu.percent", window=600.0),
    Rule(name="a", kind="missing", metric="cpu.percent"),
    Rule(name="a", kind="host_down"), Rule(name="a", kind="reboot"),
    Rule(name="a", kind="forecast", metric="disk.percent", target=9.0),
    Rule(name="a", kind="baseline", metric="cpu.percent"), Rule(name="a", kind="event"), Rule(name="a", kind="composite"),
    *(Rule(name="a", kind="state", subject=subject)  # type: ignore[arg-type]
      for subject in ("container_stopped", "container_unhealthy", "container_restarted"))],
    ids=lambda rule: rule.subject or rule.kind)
def test_every_kind_says_something(rule: Rule) -> None:
    """A rule without a message has the one of its kind, with nothing left open in it."""
    said, _ = messages.told(rule, host="web-1", severity="warning", instance="container=shop", value=3.0, threshold=2.0)
    assert said
    assert "{" not in said.replace("disk.percent{container=shop,mount=*}", "")
    assert "  " not in said


def test_long_texts_are_cut() -> None:
    """No template makes a message longer than the limit."""
    assert len(messages.render("{{ host }}" * 90, host="x" * 63)) == messages.LONGEST

"""Which host stands behind which, as the API keeps it. No host stands behind itself, however many others are between."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, Engine, text

from aggregator.analysis.quiet import cycle
from aggregator.store import audit_log, configuration

Map = dict[str, list[str]]


class UnknownHostError(Exception):
    """A host is not known; the message names it."""


class CycleError(Exception):
    """Hosts would stand behind themselves; the message is the chain of them."""


def fetch_all(engine: Engine) -> Map:
    """Host → the hosts that it stands behind directly, both by name."""
    with engine.connect() as connection:
        return _fetch(connection)


def replace_all(engine: Engine, wanted: Mapping[str, Collection[str]], actor: str) -> None:
    """Make `wanted` the whole map. Raises UnknownHostError and CycleError; then nothing is changed."""
    with engine.begin() as connection:
        _lock(connection)
        connection.execute(text("DELETE FROM dependency"))
        _insert(connection, wanted)
        audit_log.write(connection, actor, "change", "dependencies", "", {name: sorted(above) for name, above in wanted.items()})
        configuration.changed(connection, "quiet")


def replace(engine: Engine, host: str, above: Collection[str], actor: str) -> None:
    """Make `above` the hosts that one host stands behind. Raises UnknownHostError and CycleError; then nothing is changed."""
    with engine.begin() as connection:
        _lock(connection)
        connection.execute(text("DELETE FROM dependency USING host h WHERE h.id = host_id AND h.name = :host"), {"host": host})
        _insert(connection, {host: above})
        audit_log.write(connection, actor, "change", "dependencies", host, {host: sorted(above)})
        configuration.changed(connection, "quiet")


def _lock(connection: Connection) -> None:
    """Two changes that are well each by itself could close a circle together."""
    connection.execute(text("LOCK TABLE dependency IN SHARE ROW EXCLUSIVE MODE"))


def _insert(connection: Connection, wanted: Mapping[str, Collection[str]]) -> None:
    pairs = [(host, name) for host, above in wanted.items() for name in above]
    named = {*wanted, *(name for _, name in pairs)}
    rows = connection.execute(text("SELECT name, id FROM host WHERE name = ANY (:names)"), {"names": list(named)})
    ids: dict[str, int] = {name: number for name, number in rows}  # noqa: C416 (a result of pairs, not a mapping)
    if unknown := sorted(named - ids.keys()):
        raise UnknownHostError(f"there is no host {', '.join(map(repr, unknown[:5]))}")
    if alone := [host for host, name in pairs if host == name]:
        raise CycleError(f"{alone[0]} would stand behind itself")
    connection.execute(
        text("""INSERT INTO dependency (host_id, depends_on_id)
                SELECT * FROM unnest(CAST(:hosts AS int[]), CAST(:above AS int[])) ON CONFLICT DO NOTHING"""),
        {"hosts": [ids[host] for host, _ in pairs], "above": [ids[name] for _, name in pairs]})
    if chain := cycle(_fetch(connection)):
        raise CycleError(" behind ".join(chain))


def _fetch(connection: Connection) -> Map:
    rows = connection.execute(text("""SELECT h.name, array_agg(u.name ORDER BY u.name) FROM dependency d
        JOIN host h ON h.id = d.host_id JOIN host u ON u.id = d.depends_on_id GROUP BY h.name ORDER BY h.name"""))
    return {name: above for name, above in rows}  # noqa: C416 (a result of pairs, not a mapping)

"""Vacuum and statistics of the tables, without standing in the way of those who write to them."""

import dataclasses
from collections.abc import Sequence

from psycopg import sql

from shared.database import Connection

LEAST_DEAD, DEAD_SHARE = 1000, 0.05
LEAST_CHANGED, CHANGED_SHARE = 1000, 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """What the statistics say of a table: rows that live and that are dead, and those changed since it was analyzed."""

    name: str
    live: int
    dead: int
    changed: int
    is_parent: bool

    @property
    def is_due(self) -> bool:
        """Whether it is worth the work. Autovacuum never analyzes a partitioned table as a whole, so that always is."""
        return (self.is_parent or self.dead >= LEAST_DEAD + DEAD_SHARE * self.live
                or self.changed >= LEAST_CHANGED + CHANGED_SHARE * self.live)


def fetch(connection: Connection) -> list[Table]:
    """Every table of the schema, partitions and partitioned ones included."""
    return [Table(*row) for row in connection.execute(
        """SELECT c.relname, coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), coalesce(s.n_mod_since_analyze, 0),
             c.relkind = 'p'
           FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname""")]


def run(connection: Connection, table: Table) -> None:
    """Vacuum and analyze a table; a partitioned one is only analyzed. One that somebody else is at is passed over.

    Without TRUNCATE, which would take the table from everybody for a moment.
    """
    options = sql.SQL("ANALYZE (SKIP_LOCKED)" if table.is_parent else "VACUUM (ANALYZE, SKIP_LOCKED, TRUNCATE false)")
    connection.execute(sql.SQL("{} {}").format(options, sql.Identifier(table.name)))


def chosen(tables: Sequence[Table], names: Sequence[str]) -> list[Table]:
    """The tables to do: those named, or all that are due. Pure."""
    return [table for table in tables if (table.name in names if names else table.is_due)]

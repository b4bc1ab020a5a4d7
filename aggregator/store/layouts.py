"""Layouts: the ordered metric names that samples share."""

from collections.abc import Sequence

from shared.database import Connection


def ensure(connection: Connection,
           layouts: Sequence[tuple[bytes, Sequence[str]]]) -> dict[bytes, int]:
    """Ids of layouts given as (digest, keys), made where new."""
    rows = connection.execute(
        """INSERT INTO layout (digest, keys)
           SELECT d, string_to_array(k, E'\\n') FROM unnest(%s::bytea[], %s::text[]) AS n (d, k)
           ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING digest, id""",
        [[digest for digest, _ in layouts], ["\n".join(keys) for _, keys in layouts]])
    return {bytes(digest): layout_id for digest, layout_id in rows}

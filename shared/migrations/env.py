"""Alembic's environment: migrations run on the connection that `shared.database.migrate` opened."""

from typing import Any

from alembic import context


def _note(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001 (called by these names)
    context.config.attributes["applied"].append(step.up_revision_id)


context.configure(connection=context.config.attributes["connection"], on_version_apply=_note,
                  version_table="schema_version")
with context.begin_transaction():
    context.run_migrations()

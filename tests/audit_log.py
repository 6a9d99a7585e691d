"""What a dishonest owner of the broker's database does first."""

from __future__ import annotations

from sqlalchemy import Connection, text


def unlock(connection: Connection) -> None:
    """Drop the triggers that keep the audit log from being changed by mistake."""
    for table in ("audit", "audit_head"):
        if connection.dialect.name == "sqlite":
            for change in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_{change}"))
        else:
            connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_append_only ON {table}"))

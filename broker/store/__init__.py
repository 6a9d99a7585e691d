"""The only SQL: tables, rows by noun, migrations."""

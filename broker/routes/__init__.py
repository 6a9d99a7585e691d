"""HTTP: parse, call a service, answer. No rules here."""

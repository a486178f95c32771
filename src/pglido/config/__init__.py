"""What the operator asked for: one table of settings, and readers for TOML and pgbouncer.ini."""

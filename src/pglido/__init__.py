"""pglido: a connection pooler for PostgreSQL that applications do not notice."""

__version__ = "0.1.0"

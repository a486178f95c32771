"""PostgreSQL's own SQL regression tests, replayed directly and through pglido: both must print the same."""

"""What a query text says: lexer, keywords, clauses, and what a statement does to its session. Pure."""

"""Who is served by which server, now."""

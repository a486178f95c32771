"""Who is served by which server, now: pure policy with an injected clock."""

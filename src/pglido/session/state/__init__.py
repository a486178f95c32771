"""What a session is set to, and what pins it to its server."""

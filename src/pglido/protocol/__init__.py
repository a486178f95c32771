"""Bytes to PostgreSQL messages and back; no sockets, no time, no policy."""

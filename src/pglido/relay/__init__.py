"""Couples one client and one server: bytes in, verdict, bytes out."""

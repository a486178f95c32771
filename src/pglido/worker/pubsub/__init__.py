"""LISTEN and NOTIFY: one server connection for all clients of a pool."""

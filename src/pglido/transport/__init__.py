"""The only sockets: rounds, backends, TLS, connecting, accepting."""

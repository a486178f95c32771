"""The only sockets: reactor, pump, TLS, dialling, listening."""

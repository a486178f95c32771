"""What one client and one server may do next; no sockets, no pools."""

"""What one client and one server may do next."""

"""What a query text says."""

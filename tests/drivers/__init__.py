"""Real drivers doing real work through transaction mode, with more clients than servers."""

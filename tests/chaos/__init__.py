"""Money moves while workers, servers and clients are killed at random."""

"""Who may in: from a client's first packet to its welcome."""

"""One client's messages: what may go on, what is rewritten, what it does to its session."""

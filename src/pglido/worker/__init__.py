"""One process that carries bytes: composes wire, session, pool and io, and carries out plans."""

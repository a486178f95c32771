"""What the relay says to whoever decides who is served at every transaction and connection; all else is rare."""

from .links import ClientLink, ServerLink


class HostInterface:
    """The base of the relay's host: what is said without a look-up by name."""

    def attach(self, link: ClientLink) -> bool:
        """A client needs a server: pair it with one, or (False) let it wait."""
        raise NotImplementedError

    def released(self, link: ServerLink) -> None:
        """A server is free of its client."""
        raise NotImplementedError

    def client_gone(self, link: ClientLink, why: str) -> None:
        """A client left (`why` empty: with Terminate), or must go: the session's fault is told to it."""
        raise NotImplementedError

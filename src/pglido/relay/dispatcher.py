"""What the relay asks of whoever decides which server serves whom."""

from typing import Any

from ..transport.connection import Link
from .links import ClientLink, ServerLink


class Dispatcher:
    """The base of whoever decides who is served, and by what.

    `attach`, `released` and `client_gone` are told at every transaction and connection, without a look-up by name; all
    else is rare. There a `client` is a ClientLink, a `server` a ServerLink, of the class that the dispatcher makes.
    """

    def attach(self, link: ClientLink) -> bool:
        """A client needs a server: pair it with one, or (False) let it wait."""
        raise NotImplementedError

    def released(self, link: ServerLink) -> None:
        """A server is free of its client."""
        raise NotImplementedError

    def client_gone(self, link: ClientLink, why: str) -> None:
        """A client left (`why` empty: with Terminate), or must go: the session's fault is told to it."""
        raise NotImplementedError

    def server_gone(self, server: Any, why: str) -> None:
        """A server closed its connection, died, or can't be trusted any more."""
        raise NotImplementedError

    def raw_gone(self, link: Link) -> None:
        """One end of a pair whose bytes pass unseen was closed by its peer, or broke."""
        raise NotImplementedError

    def stream_lost(self, link: Link) -> None:
        """A link that collects was closed by its peer, or broke, and nobody waits for it."""
        raise NotImplementedError

    def failed(self, link: Link) -> None:
        """A bug, met while dealing with this link: the exception is the one being handled."""
        raise NotImplementedError

    def overlong(self, seconds: float, link: Link | None, worst: float, kind: int) -> None:
        """A round took so long; `link`, and `kind` if that is a client's message: as in `transport.Handler`."""
        raise NotImplementedError

    def rested(self, server: Any) -> None:
        """A server without a client has said something."""
        raise NotImplementedError

    def wished(self, client: Any) -> bool:
        """A client's session has a wish (verdict WISH); returns whether the client may go on at once."""
        raise NotImplementedError

    def pinned(self, client: Any) -> None:
        """A client is between two transactions, and can't give its server back."""
        raise NotImplementedError

    def refuse_block(self, client: Any) -> None:
        """A client has begun a transaction block where there may be none."""
        raise NotImplementedError

    def heard(self, client: Any) -> None:
        """A transaction has ended, and what the client listens to may be another now."""
        raise NotImplementedError

    def catch_up(self, client: Any) -> bool:
        """A listening client's ReadyForQuery is due: will `Relay.ready` be called when all has come before it?"""
        raise NotImplementedError

    def untied(self, client: Any) -> None:
        """What a `tied` client has asked for is done, and its server free."""
        raise NotImplementedError

"""What the pump asks at every transaction of whoever decides who is served; all else it asks of its `host` rarely."""

from .links import ClientLink, ServerLink


class Keeper:
    """The base of the pump's host: two questions, asked without a look-up by name."""

    def attach(self, client: ClientLink) -> bool:
        """A client needs a server: pair it with one, or (False) let it wait."""
        raise NotImplementedError

    def released(self, server: ServerLink) -> None:
        """A server is free of its client."""
        raise NotImplementedError

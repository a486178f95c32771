"""Who sent the notifications that a listening connection hears: clients of this pooler go by their own process ids."""

from ...session.server.notification_signature import NotificationSigner
from .notifications import process_of

# A server that is lost while it works for a client leaves an entry behind.
MANY = 65536


class Senders:
    """By server process: the number of its last signature (see `session.server.notification_signature`) and the client
    that it is for.

    Signatures from before `since` count for nothing: what came after them was not heard.
    """

    __slots__ = ("_known", "_signer", "_since")

    def __init__(self, signer: NotificationSigner | None) -> None:
        self._signer = signer
        self._since = 0 if signer is None else signer.next()
        self._known: dict[int, tuple[int, int]] = {}

    def listened(self) -> None:
        """Signatures are heard from now on: servers are to make new ones."""
        if self._signer is not None:
            self._signer.ears.add()

    def signed(self, notification: bytes) -> None:
        """Something came on the channel of signatures."""
        if self._signer is None:
            return
        process = process_of(notification)
        payload = notification[9:-1].partition(b"\0")[2]
        read = self._signer.read(process, payload)
        if read is None or read[0] < max(self._since, self._known.get(process, (0, 0))[0]):
            return
        if len(self._known) >= MANY:
            self._known.clear()
        self._known[process] = read

    def named(self, notification: bytes) -> bytes:
        """A NotificationResponse with the process id of the client that sent it; where that is not known, as it is."""
        if not self._known:
            return notification
        _, client = self._known.get(process_of(notification), (0, 0))
        return notification[:5] + client.to_bytes(4, "big") + notification[9:] if client else notification

    def forget(self, process: int) -> None:
        """The server of this process is gone: somebody else's may get its number."""
        self._known.pop(process, None)

"""For whom one server says that it works, so that notifications from it are known as its client's (see
`notification_signature`).

It says so in front of what may notify, and in front of the next client's transaction that it does so no more. A
signature in a transaction of its own lasts; one in the client's transaction may be rolled back with it, and so is said
again each time: PostgreSQL drops what was said already.
"""

from ...protocol import messages
from ...protocol.codes import QUERY
from .notification_signature import UNHURRIED, NotificationSigner
from .reply_kinds import BINDING, CLOSING, EXECUTING, INTERNAL, PARSING, TRYING
from .statements import ServerStatements

# A statement and a portal of this name, which a client can't have made.
NAME = b"_pglido_sender"
BIND = messages.message(ord("B"), (NAME + b"\0") * 2 + b"\0\0\0\0\0\0")
EXECUTE = messages.message(ord("E"), NAME + b"\0\0\0\0\0")
CLOSE = messages.close_statement(NAME) + messages.message(ord("C"), b"P" + NAME + b"\0")
# Whom the server works for where that is not known, nor that it is nobody.
ANYBODY = -1


class NotificationSender:
    """What the server said last: `named` is the client of it, by its process id (0: nobody); is it `sure` to hold?

    `process` is the server's own process id. Without a `signer` nothing is said.
    """

    __slots__ = ("_heard_by", "_number", "_prepared", "named", "process", "signer", "sure")

    def __init__(self, prepared: ServerStatements) -> None:
        self._prepared = prepared
        self.signer: NotificationSigner | None = None
        self.process = 0
        self.named = 0
        self.sure = False
        self._number = 0
        self._heard_by = 0

    def begin(self, signer: NotificationSigner | None, process: int) -> None:
        """The server has logged in."""
        self.signer = signer
        self.process = process

    def due(self, client: int) -> bool:
        """Is there anybody who does not know, for sure, that notifications are this client's from now on?"""
        if self.signer is None:
            return False
        heard_by = self.signer.heard_by()
        return heard_by > 0 and not (self.sure and self.named == client and self._heard_by == heard_by)

    def _said(self, client: int) -> bytes:
        assert self.signer is not None
        heard_by = self.signer.heard_by()
        if self.named != client or self._heard_by != heard_by:
            self.named = client
            self.sure = False
            self._number = self.signer.next()
            self._heard_by = heard_by
        return self.signer.sign(self.process, self._number, client)

    def alone(self, client: int) -> bytes:
        """The message by which the server, at rest, says for whom it works; its answers end here."""
        said = self._said(client)
        self.sure = True
        return self._query(UNHURRIED + said)

    def within(self, client: int) -> bytes:
        """The same in a transaction of the client's, or where there may be one."""
        return self._query(self._said(client))

    def _query(self, sql: bytes) -> bytes:
        self._prepared.unnamed = 0
        self._prepared.replies.push(TRYING | INTERNAL)
        return messages.message(QUERY, sql + b"\0")

    def in_batch(self, client: int) -> bytes:
        """The same in the middle of a batch."""
        prepared = self._prepared
        prepared.expect(PARSING | INTERNAL, None, None)
        prepared.replies.push(BINDING | INTERNAL)
        prepared.replies.push(EXECUTING | INTERNAL)
        prepared.expect(CLOSING | INTERNAL, None, None)
        prepared.expect(CLOSING | INTERNAL, None, None)
        return messages.parse(NAME, self._said(client) + messages.EMPTY_STATEMENT) + BIND + EXECUTE + CLOSE

    def failed(self) -> None:
        """Something of pglido's own was refused: maybe this."""
        if self._heard_by:
            self.named = ANYBODY
            self.sure = False

"""A bare BEGIN that no server was asked for yet (`defer_begin`): what is answered to it, and to an end that follows.

A client that begins and then thinks holds no server meanwhile. Only the plainest spellings are taken.
"""

from ...protocol import messages
from ...protocol.codes import COMMAND_COMPLETE, IN_TRANSACTION, READY_FOR_QUERY

READY_BEGUN = messages.message(READY_FOR_QUERY, bytes([IN_TRANSACTION]))


def _done(tag: bytes) -> bytes:
    return messages.message(COMMAND_COMPLETE, tag + b"\0")


BEGINS = {
    b"begin": _done(b"BEGIN"),
    b"begin transaction": _done(b"BEGIN"),
    b"begin work": _done(b"BEGIN"),
    b"start transaction": _done(b"START TRANSACTION"),
}
ENDS = {
    **{words: _done(b"COMMIT") for words in (b"commit", b"commit transaction", b"commit work", b"end")},
    **{words: _done(b"ROLLBACK") for words in (b"rollback", b"rollback transaction", b"rollback work", b"abort")},
}
# The longest of them, with a semicolon, a zero and some white space.
LONGEST = 40


def answer(query: bytes, begun: bool) -> bytes | None:
    """The whole answer to this query (as in the message, with its zero), or None: a server must answer it.

    `begun`: a BEGIN was answered here, and nothing else since.
    """
    words = b" ".join(query.rstrip(b"\0").strip().removesuffix(b";").lower().split())
    if not begun and words in BEGINS:
        return BEGINS[words] + READY_BEGUN
    if begun and words in ENDS:
        return ENDS[words] + messages.READY_IDLE
    return None

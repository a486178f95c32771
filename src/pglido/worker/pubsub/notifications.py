"""NotificationResponse messages, and what is told to clients that can get none."""

from ...protocol import codes
from ..errors import PoolRefused

# cannot_connect_now
REFUSED = "57P03"


def refusal(problem: str) -> PoolRefused:
    """What a client is told that can't be let in, for nothing would ever come."""
    return PoolRefused(REFUSED, unheard(problem))


def unheard(problem: str) -> str:
    """Why nothing would come, for those who want to listen."""
    return f"can't listen to the server: {problem}"


def channel_of(notification: bytes) -> bytes:
    """The channel of a whole NotificationResponse: after type, length and process id, up to a zero."""
    return notification[9 : notification.find(b"\0", 9)]


def process_of(notification: bytes) -> int:
    """The process id in a whole NotificationResponse."""
    return int.from_bytes(notification[5:9], "big")


def sifted(notes: bytearray, channels: frozenset[bytes]) -> bytearray | None:
    """Whole messages without the notifications from other channels; None for nothing."""
    kept = bytearray()
    at = 0
    data = bytes(notes)
    while at < len(data):
        stop = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        one = data[at:stop]
        if one[0] != codes.NOTIFICATION_RESPONSE or channel_of(one) in channels:
            kept += one
        at = stop
    return kept or None

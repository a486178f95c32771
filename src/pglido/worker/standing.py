"""Where a client stands now: the stage of its connection, and of one with a session what it does with a server."""

from ..protocol.codes import IDLE as STATUS_IDLE
from ..relay.stage import HUNG_UP, LEAVING, SERVED
from .connections import ClientConnection

# Besides the stages (`relay.stage`), for those that have a session:
# no server, and none is wanted;
IDLE = 16
# in line for one;
QUEUED = 17
# something that it asked for is not done;
ACTIVE = 18
# all is done, but its transaction, or its batch, goes on;
IN_TRANSACTION = 19
# it keeps its server beyond a transaction: session mode, or it is pinned.
KEEPING = 20

WITH_SESSION = (SERVED, HUNG_UP, LEAVING)


def standing(client: ClientConnection) -> int:
    """A stage without a session, or one of those above."""
    if client.stage not in WITH_SESSION:
        return client.stage
    if client.ticket is not None:
        return QUEUED
    if client.server is None:
        return IDLE
    session = client.server.session
    if session.replies.head:
        return ACTIVE
    return KEEPING if session.status == STATUS_IDLE and not session.awaits_more() else IN_TRANSACTION

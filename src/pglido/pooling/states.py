"""The states of a slot, and what SHOW SERVERS calls them, `pool` draws how one leads to another; and those of a pool's
gate.
"""

OPENING = 1
IDLE = 2
BUSY = 3
CHECKING = 4
CLOSING = 5

STATES = {OPENING: "login", IDLE: "idle", BUSY: "active", CHECKING: "tested", CLOSING: "closing"}

# A pool's gate. PAUSED: clients wait, and servers are closed when they are free. SHUT: there is no such pool any more,
# clients are told so.
OPEN = 0
PAUSED = 1
SHUT = 2

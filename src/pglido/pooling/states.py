"""The states of a slot, and what SHOW SERVERS calls them; `pool` draws how one leads to another."""

OPENING = 1
IDLE = 2
BUSY = 3
CHECKING = 4
CLOSING = 5

STATES = {OPENING: "login", IDLE: "idle", BUSY: "active", CHECKING: "tested", CLOSING: "closing"}

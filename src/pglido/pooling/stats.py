"""Counters of one pool, kept by whoever carries its bytes and read by whoever shows them."""


class Stats:
    """Cumulative since start; times in seconds, `received` and `sent` as the clients sent and received bytes.

    `pins` counts how often a client could not give its server back between two transactions.
    """

    __slots__ = (
        "assignments",
        "logins",
        "pins",
        "queries",
        "query_time",
        "received",
        "sent",
        "transaction_time",
        "transactions",
        "wait_time",
    )

    def __init__(self) -> None:
        self.assignments = 0
        self.transactions = 0
        self.queries = 0
        self.received = 0
        self.sent = 0
        self.transaction_time = 0.0
        self.query_time = 0.0
        self.wait_time = 0.0
        self.logins = 0
        self.pins = 0

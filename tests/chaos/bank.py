"""The bank that the chaos runs in: accounts, a journal of every transfer, and the audit of both at the end."""

import random
from dataclasses import dataclass

from harness.cluster import Cluster

DATABASE = "bank"
ACCOUNTS = 200
OPENING = 1000

_TABLES = f"""
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO accounts SELECT n, {OPENING} FROM generate_series(1, {ACCOUNTS}) n;
CREATE TABLE journal (client int, seq int, debit int, credit int, amount int, PRIMARY KEY (client, seq));
"""

_WRONG_ACCOUNTS = f"""
SELECT id, balance, {OPENING} + received - paid FROM accounts,
    LATERAL (SELECT coalesce(sum(amount), 0) AS paid FROM journal WHERE debit = id),
    LATERAL (SELECT coalesce(sum(amount), 0) AS received FROM journal WHERE credit = id)
WHERE balance <> {OPENING} + received - paid
"""

UPDATE = "UPDATE accounts SET balance = balance + {} WHERE id = {}"
INSERT = "INSERT INTO journal VALUES ({}, {}, {}, {}, {})"


@dataclass(frozen=True)
class Transfer:
    """`amount` goes from one account to another; numbered by its client."""

    client: int
    seq: int
    debit: int
    credit: int
    amount: int

    @classmethod
    def draw(cls, rng: random.Random, client: int, seq: int) -> "Transfer":
        """A random one."""
        debit, credit = rng.sample(range(1, ACCOUNTS + 1), 2)
        return cls(client, seq, debit, credit, rng.randint(1, 100))

    def steps(self) -> list[tuple[str, tuple[int, ...]]]:
        """The statements with their values; accounts in order, so that no two transfers deadlock."""
        changes = sorted([(self.debit, -self.amount), (self.credit, self.amount)])
        return [
            *((UPDATE, (change, account)) for account, change in changes),
            (INSERT, (self.client, self.seq, self.debit, self.credit, self.amount)),
        ]

    def literal(self) -> list[str]:
        """The statements with their values in the text."""
        return [text.format(*values) for text, values in self.steps()]


def numbered(text: str) -> str:
    """A statement with PostgreSQL's parameters: $1, $2, ..."""
    return text.format(*(f"${n}" for n in range(1, text.count("{}") + 1)))


def open_bank(cluster: Cluster) -> None:
    """Make the database."""
    cluster.admin(f"DROP DATABASE IF EXISTS {DATABASE}")
    cluster.admin(f"CREATE DATABASE {DATABASE} OWNER app")
    with cluster.wire("app", DATABASE) as wire:
        wire.run(_TABLES)
        wire.bye()


@dataclass
class Books:
    """What clients know of their transfers: `done` was acknowledged, for `never` no COMMIT was sent."""

    done: set[tuple[int, int]]
    never: set[tuple[int, int]]
    unknown: set[tuple[int, int]]


def audit(cluster: Cluster, books: Books) -> list[str]:
    """All that is wrong: money made or lost, transfers half applied, lost, or committed by nobody's will."""
    ((total,),) = cluster.admin("SELECT sum(balance) FROM accounts", DATABASE)
    wrong = [] if total == str(ACCOUNTS * OPENING) else [f"sum of balances {total}"]
    wrong += [
        f"account {account} has {balance}, by the journal {expected}"
        for account, balance, expected in cluster.admin(_WRONG_ACCOUNTS, DATABASE)
    ]
    rows = cluster.admin("SELECT client, seq FROM journal", DATABASE)
    written = {(int(client or 0), int(seq or 0)) for client, seq in rows}
    for what, which in (
        ("acknowledged, but not there", books.done - written),
        ("there, but its client never sent a COMMIT", written & books.never),
        ("there, but nobody knows it", written - books.done - books.never - books.unknown),
    ):
        wrong += [f"transfer {client}/{seq}: {what}" for client, seq in sorted(which)[:10]]
    return wrong

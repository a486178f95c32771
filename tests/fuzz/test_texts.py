"""Texts made of anything: both builds of the core say the same of them, and neither fails."""

from random import Random

from fuzz.mutation import SEED, TIMES, mutated
from parity.builds import INSTALLED, SOURCE, Build

ROUNDS = 3000 * TIMES
STATEMENTS = [
    b"SET TimeZone = 'UTC'; ",
    b"SELECT set_config('app.tenant', $1, false) ",
    b"PREPARE a (int) AS SELECT $1; EXECUTE a(1); ",
    b"DO $x$ BEGIN EXECUTE format('SET %I = 1', 'a.b'); END $x$ ",
    b"CREATE TEMP TABLE t AS SELECT 'it''s', E'\\'', U&'\\0041', \"q\"\"q\", $$a$$ -- comment\n",
    b"/* nested /* comments */ */ LISTEN \"Channel\"; UNLISTEN *; NOTIFY a, 'b'; ",
    b"EXPLAIN (ANALYZE) EXECUTE a; DEALLOCATE ALL; DISCARD ALL; RESET ALL; ",
    b"DECLARE c CURSOR WITH HOLD FOR SELECT nextval('s'), pg_advisory_lock(1) ",
    b"ALTER ROLE app SET a.b = 'c'; DROP DATABASE x; CREATE DATABASE y TEMPLATE z; ",
    b"BEGIN; COMMIT AND CHAIN; ROLLBACK TO a; PREPARE TRANSACTION 'x'; ",
]


def told(build: Build, text: bytes) -> object:
    """What a build says of a text."""
    build.sql.analysis._remembered.clear()
    flags = build.sql.scanner.scan(text, 0, len(text), False, None)
    whole = build.sql.scanner.scan(text, 0, len(text), True, None)
    reading = build.sql.effects
    look = build.sql.analysis._look(text)
    return flags, whole, reading.names_anywhere(text), reading.deallocated(look), reading.channels(look)


def test_builds_agree_about_every_text() -> None:
    random = Random(SEED)
    for number in range(ROUNDS):
        text = mutated(random, random.sample(STATEMENTS, 3)).replace(b"\0", b" ")
        assert told(INSTALLED, text) == told(SOURCE, text), f"round {number} of seed {SEED}: {text!r}"

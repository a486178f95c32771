"""A setting's value is the same bytes wherever its client is served, in every encoding that PostgreSQL converts.

The server itself tells which characters there are.
"""

from collections.abc import Iterator

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.wire import Wire, kinds

# Of clients (manual, "Character Set Support"), with how long their characters are and between what their bytes lie.
SINGLE = (
    *(f"ISO_8859_{part}" for part in (5, 6, 7, 8)),
    *(f"LATIN{number}" for number in range(1, 11)),
    *(f"WIN{page}" for page in (866, 874, *range(1250, 1259))),
    "KOI8R",
    "KOI8U",
)
EUC = ("EUC_JP", "EUC_JIS_2004", "EUC_CN", "EUC_KR", "EUC_TW")
# No database can have these.
FOREIGN = ("SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "GB18030", "JOHAB")
# As much as one query carries.
CHUNK = 16000

TRIES = """
CREATE FUNCTION e_valid(prefix bytea, leads int[], trails int[], encoding name) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE found bytea := ''; one bytea; lead int; trail int;
BEGIN
    FOREACH lead IN ARRAY leads LOOP FOREACH trail IN ARRAY trails LOOP
        BEGIN
            one := prefix || decode(lpad(to_hex(lead), 2, '0') || CASE WHEN trail = 0 THEN ''
                ELSE lpad(to_hex(trail), 2, '0') END, 'hex');
            -- What comes back as it went is a character.
            IF convert_to(convert_from(one, encoding), encoding) = one THEN found := found || one || ' '; END IF;
        EXCEPTION WHEN others THEN
        END;
    END LOOP; END LOOP;
    RETURN found;
END$$
"""


@pytest.fixture(scope="module")
def oracle(cluster: Cluster) -> Iterator[Cluster]:
    """A server that tells which bytes are characters."""
    cluster.admin(TRIES, "app")
    yield cluster
    cluster.admin("DROP FUNCTION e_valid(bytea, int[], int[], name)", "app")


def characters(oracle: Cluster, encoding: str) -> list[bytes]:
    """All characters of an encoding beyond ASCII, in pieces: with a blank behind each."""
    high = "ARRAY(SELECT generate_series(128, 255))"
    shapes = [("''", high, "ARRAY[0]")]
    if encoding in EUC:
        shapes += [("''", high, high)]
        shapes += [(r"'\x8f'", high, high)] if "J" in encoding else []
        shapes += [(rf"'\x8ea{plane}'", high, high) for plane in (1, 2, 3, 4)] if encoding == "EUC_TW" else []
    elif encoding in FOREIGN:
        shapes += [("''", high, "ARRAY(SELECT generate_series(48, 255))")]
    found = []
    for prefix, leads, trails in shapes:
        tried = f"e_valid({prefix}, {leads}, {trails}, '{encoding}')"
        ((valid,),) = oracle.admin(f"SELECT encode({tried}, 'hex')", "app")
        found += pieces(bytes.fromhex(valid or ""))
    return found


def pieces(text: bytes) -> list[bytes]:
    """A text cut where a blank stands."""
    found = []
    while len(text) > CHUNK:
        at = text.rindex(b" ", 0, CHUNK) + 1
        found.append(text[:at])
        text = text[at:]
    return [*found, text] if text else found


def shown(wire: Wire) -> bytes:
    """The value, as the client sees it."""
    (value,) = next(part for part in wire.ask("SHOW app.tenant") if part.kind == "D").row
    assert value is not None
    return value


def assigned(value: bytes) -> bytes:
    """The query that sets it, with what else is written in some way of its own."""
    return m.message("Q", b"SET app.tenant = '~ '' \\ " + value + b"'\0")


@pytest.mark.parametrize("encoding", [*SINGLE, *EUC, *FOREIGN])
def test_every_character_follows_its_client(
    shared_pooler: MakePooler, cluster: Cluster, oracle: Cluster, encoding: str
) -> None:
    pool = shared_pooler(cluster, default_pool_size=1, workers=1)
    direct = cluster.wire(client_encoding=encoding)
    wire, other = pool.wire(client_encoding=encoding), pool.wire()
    found = characters(oracle, encoding)
    assert found
    for value in found:
        for one in (direct, wire):
            one.send(assigned(value))
            assert kinds(one.until()) == "CZ"
        assert other.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert shown(wire) == shown(direct)
        assert value in shown(wire)
    assert pool.console("SHOW PINS") == []


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "MULE_INTERNAL", "LATIN1", "WIN1252", *EUC])
def test_every_character_of_a_database_follows_its_client(
    pooler: MakePooler, cluster: Cluster, oracle: Cluster, encoding: str
) -> None:
    name = f"e_{encoding.lower()}"
    cluster.admin(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    place = {"host": "127.0.0.1", "port": cluster.port}
    pool = pooler(databases={name: place}, default_pool_size=1, workers=1)
    wire, other = pool.wire(database=name), pool.wire(database=name, client_encoding="SQL_ASCII")
    if encoding == "SQL_ASCII":
        found = [bytes(range(128, 256))]
    elif encoding == "MULE_INTERNAL":
        found = [b"\x81\xe4 \x81\xf6 "]
    else:
        found = characters(oracle, encoding)
    for value in found:
        wire.send(assigned(value))
        assert kinds(wire.until()) == "CZ"
        assert other.one("SELECT coalesce(current_setting('app.tenant', true), '')") == ""
        assert value in shown(wire)
    assert pool.console("SHOW PINS") == []
    for one in (wire, other):
        one.bye()
    pool.stop()
    cluster.admin(f"DROP DATABASE {name} WITH (FORCE)")

"""A setting that a client has set to its default is the client's own: a new default is for others."""

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.waiting import eventually
from harness.wire import Wire
from pglido.sql import transaction_settings

# A function of the database, by which a setting is set that its text names.
FUNCTION = "CREATE FUNCTION d_{name}() RETURNS void LANGUAGE plpgsql AS 'BEGIN SET {name} = ''{default}''; END'"
# How a client sets a setting to its default, or doesn't: directly another default is then its own, or not.
WAYS = {
    "nothing": ("SELECT 1",),
    "set": ("SET {name} = '{default}'",),
    "set, with others": ("SET app.x = 'y'; SELECT 1; SET {name} = '{default}'",),
    "set twice": ("SET {name} = '{other}'", "SET {name} = '{default}'"),
    "to default": ("SET {name} = '{other}'", "SET {name} TO DEFAULT"),
    "to default, from none": ("SET {name} TO DEFAULT",),
    "reset": ("SET {name} = '{other}'", "RESET {name}"),
    "reset what is the default": ("SET {name} = '{default}'", "RESET {name}"),
    "reset all": ("SET {name} = '{default}'", "RESET ALL"),
    "discard all": ("SET {name} = '{default}'", "DISCARD ALL"),
    "set_config": ("SELECT set_config('{name}', '{default}', false)",),
    "set_config by a parameter": ("bind {name} {default}",),
    "pg_settings": ("UPDATE pg_settings SET setting = '{default}' WHERE name = '{name}'",),
    "do": ("DO $$ BEGIN SET {name} = '{default}'; END $$",),
    "do and execute": ("DO $$ BEGIN EXECUTE 'SET {name} TO ''{default}'''; END $$",),
    "function": ("SELECT d_{name}()",),
    "local": ("BEGIN; SET LOCAL {name} = '{default}'; COMMIT",),
    "rolled back": ("BEGIN; SET {name} = '{default}'; ROLLBACK",),
    "rolled back to another": ("SET {name} = '{default}'", "BEGIN; SET {name} = '{other}'; ROLLBACK"),
    "failed": ("SET {name} = '{default}'; SELECT 1/0",),
    "then something else": ("SET {name} = '{default}'", "DO $$ BEGIN SET app.x = 'y'; END $$"),
    "other, then something else": ("SET {name} = '{other}'", "DO $$ BEGIN SET app.x = 'y'; END $$", "RESET {name}"),
}
# Each setting that a question sets for itself: another value than its default, and the default that it has afterwards.
VALUES = {
    "statement_timeout": ("77s", "88s"),
    "lock_timeout": ("77s", "88s"),
    "transaction_timeout": ("77s", "88s"),
    "jit": ("off", "off"),
    "max_parallel_workers_per_gather": ("3", "4"),
    "debug_print_parse": ("on", "on"),
    "debug_print_rewritten": ("on", "on"),
    "debug_print_plan": ("on", "on"),
    "work_mem": ("7MB", "9MB"),
    "hash_mem_multiplier": ("3", "5"),
}


def say(wire: Wire, text: str) -> None:
    """Say it, whether or not it fails."""
    if text.startswith("bind "):
        _, name, value = text.split()
        wire.send(m.parse("", "SELECT set_config($1, $2, false)"), m.bind("", "", name, value), m.execute(), m.SYNC)
        wire.until()
    else:
        wire.ask(text)


def reloaded(wire: Wire, asked: str) -> None:
    """Wait until a client that has set nothing has the new default."""
    eventually(lambda: wire.run(asked)[0][1] == "configuration file")


def test_default_that_was_set_is_its_clients(pooler: MakePooler, own_cluster: Cluster) -> None:
    assert VALUES.keys() == transaction_settings.HINDERING.keys()
    admin = own_cluster.admin
    defaults = {name: admin(f"SHOW {name}")[0][0] for name in VALUES}
    for name, default in defaults.items():
        admin(FUNCTION.format(name=name, default=default), "app")
    pool = pooler(own_cluster, default_pool_size=3, workers=1)
    different = []
    for name, (other, later) in VALUES.items():
        found = {}
        for way, texts in WAYS.items():
            found[way] = twin, wire = own_cluster.wire(), pool.wire()
            for text in texts:
                said = text.format(name=name, default=defaults[name], other=other)
                say(twin, said)
                say(wire, said)
        admin(f"ALTER SYSTEM SET {name} = '{later}'")
        admin("SELECT pg_reload_conf()")
        asked = f"SELECT setting, source FROM pg_settings WHERE name = '{name}'"
        reloaded(found["nothing"][0], asked)
        for way, (twin, wire) in found.items():
            if (alone := twin.run(asked)) != (pooled := wire.run(asked)):
                different.append((name, way, alone, pooled))
            twin.bye()
            wire.bye()
    assert different == []

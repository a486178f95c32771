"""Who is logging in while the configuration changes is judged by the new one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scramp import ScramClient

import harness.messages as m
from conftest import MakePooler
from harness.cluster import PASSWORD_ROLES, Cluster
from harness.pooler import Pooler, default_config
from harness.waiting import eventually
from harness.wire import Wire

READER = {"auth_reader": {"password": PASSWORD_ROLES["auth_reader"][0]}}
SECRET = PASSWORD_ROLES["u_scram"][0]
LOCK = 4711
SLOW = f"SELECT rolname, rolpassword FROM pg_authid, pg_advisory_xact_lock({LOCK}) WHERE rolname = $1"


def change(pool: Pooler, cluster: Cluster, **settings: Any) -> None:
    """Reload with other settings."""
    pool.reload(default_config(pool.port, cluster.port, workers=1, **settings))
    assert "reload failed" not in pool.log


@contextmanager
def held_up(cluster: Cluster) -> Iterator[None]:
    """Questions that take the lock wait meanwhile; one does at the end."""
    with cluster.wire("postgres", "app") as holder:
        holder.run(f"SELECT pg_advisory_lock({LOCK})")
        yield


def is_asked(cluster: Cluster) -> bool:
    """Whether a question waits for the lock."""
    return cluster.admin(f"SELECT count(*) FROM pg_locks WHERE objid = {LOCK} AND NOT granted") == [["1"]]


class Proving(Wire):
    """A client that stops in the middle of its proof by SCRAM."""

    scram: ScramClient

    def begin(self, user: str, secret: str) -> None:
        """Up to the challenge."""
        self.hello(user, "app")
        assert self.message().kind == "R"
        self.scram = ScramClient(["SCRAM-SHA-256"], user, secret)
        self.send(m.sasl_initial("SCRAM-SHA-256", self.scram.get_client_first()))
        self.scram.set_server_first(self.message().body[4:].decode())

    def finish(self) -> str:
        """SQLSTATE of the refusal, empty where it is let in."""
        self.send(m.message("p", self.scram.get_client_final().encode()))
        return refusal(self)


def refusal(wire: Wire) -> str:
    last = wire.until("ZE")[-1]
    return last.fields["C"] if last.kind == "E" else ""


@pytest.mark.parametrize("present", [{"auth_user": "auth_reader"}, {}], ids=["auth_user stays", "auth_user is gone"])
def test_who_is_known_by_auth_query_only_needs_it_to_the_end(
    pooler: MakePooler, cluster: Cluster, present: dict[str, str]
) -> None:
    given = {"auth_type": "scram-sha-256", "users": READER}
    pool = pooler(workers=1, auth_user="auth_reader", auth_query_ttl=0, **given)
    with Proving.dial(pool.address) as wire:
        wire.begin("u_scram", SECRET)
        change(pool, cluster, **given, **present)
        assert wire.finish() == ("" if present else "28P01")


def test_who_had_nothing_to_prove_is_asked_for_a_proof_if_there_is_one_to_give_now(
    pooler: MakePooler, cluster: Cluster
) -> None:
    given = {"auth_user": "auth_reader", "auth_query": SLOW, "users": READER}
    pool = pooler(workers=1, auth_type="trust", **given)
    with Proving.dial(pool.address) as wire:
        with held_up(cluster):
            wire.hello("u_scram", "app")
            eventually(lambda: is_asked(cluster))
            change(pool, cluster, auth_type="scram-sha-256", **given)
        first = wire.message()
        assert (first.kind, first.body[:4]) == ("R", b"\0\0\0\x0a")
        wire.scram = ScramClient(["SCRAM-SHA-256"], "u_scram", SECRET)
        wire.send(m.sasl_initial("SCRAM-SHA-256", wire.scram.get_client_first()))
        wire.scram.set_server_first(wire.message().body[4:].decode())
        assert wire.finish() == ""


@pytest.mark.parametrize("database", ["app", "pglido"])
@pytest.mark.parametrize(("now", "expected"), [("password", ""), ("trust", ""), ("scram-sha-256", "28P01")])
def test_a_proof_of_another_kind_than_is_asked_for_now_is_none(
    pooler: MakePooler, cluster: Cluster, now: str, expected: str, database: str
) -> None:
    given = {"users": {"app": {"password": "x"}}, "admin_users": ["app"]}
    pool = pooler(workers=1, auth_type="password", **given)
    with pool.dial() as wire:
        wire.hello("app", database)
        assert wire.message().kind == "R"
        change(pool, cluster, auth_type=now, **given)
        wire.send(m.password("x"))
        assert refusal(wire) == expected


@pytest.mark.parametrize(("now", "expected"), [("scram-sha-256", ""), ("trust", ""), ("password", "28P01")])
def test_a_proof_met_at_the_door_is_judged_alike(
    pooler: MakePooler, cluster: Cluster, now: str, expected: str
) -> None:
    given = {"users": {"u_scram": {"password": SECRET}}}
    pool = pooler(workers=1, auth_type="scram-sha-256", **given)
    assert pool.wire("u_scram", password=SECRET).one("SELECT 1") == "1"
    with Proving.dial(pool.address) as wire:
        wire.begin("u_scram", SECRET)
        change(pool, cluster, auth_type=now, **given)
        assert wire.finish() == expected

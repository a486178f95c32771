"""Which modules are compiled, and which build runs: compiled, or interpreted because an extension is missing.

setup.py executes this file by its path, before there is a package: it imports the standard library alone.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

# Below `pglido`: each is a plain typed .py with a .pxd beside it, or compiled-only Cython in Python's syntax.
COMPILED = (
    "auth.scram_server",
    "auth.decoys",
    "auth.libcrypto",
    "auth.scram",
    "transport.buffering",
    "transport.accept",
    "transport.epoll",
    "relay.dispatcher",
    "transport.handler",
    "transport.transport",
    "transport.connection",
    "worker.parent_death",
    "transport.poller",
    "relay.relay",
    "transport.rounds",
    "transport.tls_record",
    "ipc.shared_cells",
    "pooling.queue",
    "pooling.pool",
    "pooling.stats",
    "session.state.budget",
    "relay.links",
    "session.client.dispatch",
    "session.state.listen_mark",
    "session.client.inspection",
    "session.client.partial",
    "session.client.statement_context",
    "session.outbox",
    "session.server.flow",
    "session.server.statements",
    "session.server.undo_log",
    "session.in_memory",
    "session.server.reply_queue",
    "session.server.replay",
    "session.client.extended",
    "session.server.reader",
    "session.state.parameters",
    "session.state.session_state",
    "session.server.notification_sender",
    "session.state.shared",
    "cache",
    "sql.lexer",
    "sql.analysis",
    "sql.clauses",
    "sql.scanner",
    "sql.tokens",
    "worker.dispatch",
    "worker.login.access_log",
    "worker.cancel_keys",
    "worker.connections",
    "worker.login.scram_login",
    "worker.login.login_template",
    "worker.login.fast_path",
)
# Compiled where setup.py finds what it needs: liburing.
OPTIONAL = ("transport.uring_requests", "transport.uring_kernel", "transport.uring")


@cache
def interpreted() -> tuple[str, ...]:
    """Modules that should be extensions and are not, by full name; empty for the compiled build."""
    return tuple(name for name in (f"pglido.{module}" for module in COMPILED) if not is_extension(name))


def is_extension(name: str) -> bool:
    """Is this module, by its full name, there as an extension?"""
    spec = sys.modules[name].__spec__ if name in sys.modules else find_spec(name)
    return spec is not None and spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES))


def describe() -> str:
    """`compiled`, or `interpreted` with how much of it: for --version, the test header and the log."""
    missing = interpreted()
    if not missing:
        return "compiled"
    if len(missing) == len(COMPILED):
        return "interpreted"
    return f"interpreted in part ({', '.join(missing)})"

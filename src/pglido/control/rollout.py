"""The configuration in force, and how another takes its place: everywhere, or nowhere.

Rules:
1. All files are read here, and what they say is tried here: TLS contexts, the log, TCP options (`reload.read`).
2. Then the workers are asked (`two_phase`), and all are told COMMIT or ABORT. Until then nothing has changed.
3. A successor gets what is in force, out of memory, and what is being prepared behind it.
4. One reload at a time; the next waits.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from .. import log as logs
from ..admin.control_api import Reloaded
from ..auth.secrets import raw
from ..config.errors import ConfigError, Place, Problem
from ..ipc.messages import Abort, Commit, Configure, Message, Prepare, Prepared
from . import daemon
from .heartbeat import LOOK
from .reload import Loaded, open_log, reread
from .supervisor import Greeting, Supervisor
from .two_phase import Outcome, Poll

log = logging.getLogger("pglido.control")

PREPARE_TIMEOUT = 10.0  # seconds that a worker which moves may take to answer


class _Pending(NamedTuple):
    """What is being prepared."""

    number: int
    loaded: Loaded
    outputs: logs.Outputs
    poll: Poll


class Rollout:
    """Holds what is in force. `changed` is called right after something else is."""

    def __init__(
        self,
        loaded: Loaded,
        outputs: logs.Outputs,
        workers: int,
        changed: Callable[[], None],
        environ: Mapping[str, str] | None,
    ) -> None:
        self.loaded = loaded
        self.supervisor: Supervisor
        self._outputs = outputs
        self._workers = workers
        self._changed = changed
        self._environ = environ
        self._drawn = secrets.token_bytes(32)
        self._lock = asyncio.Lock()
        self._heard = asyncio.Event()
        self._number = 0
        self._pending: _Pending | None = None

    def greeting(self) -> Greeting:
        """The first messages to a new worker, with their descriptors."""
        found: list[tuple[Message, list[int]]] = [self._message(self.loaded, self._outputs)]
        if self._pending is not None:
            found.append(self._prepare(self._pending))
        return found

    async def reload(self) -> Reloaded:
        """Read everything again, and put it in force, until all have taken it.

        Raises ConfigError; then all is as it was.
        """
        async with self._lock:
            daemon.notify("RELOADING=1", daemon.reloading())
            try:
                return await self._reload()
            except ConfigError as error:
                _tell(error)
                raise
            except OSError as error:  # of descriptors there were not enough
                place = Place(self.loaded.config.path)
                raise _tell(ConfigError([Problem(place, "", error.strerror or str(error))])) from error
            finally:
                daemon.notify("READY=1")

    def answered(self, worker: int, message: Prepared) -> None:
        """A worker tells whether it is ready."""
        if self._pending is not None and message.number == self._pending.number:
            self._pending.poll.answered(worker, message.problem)
            self._heard.set()

    def died(self, worker: int) -> None:
        """A worker has ended."""
        if self._pending is not None:
            self._pending.poll.ends(worker)
            self._heard.set()

    def close(self) -> None:
        """Nobody will be greeted any more."""
        self._outputs.close()
        self._outputs = logs.STDERR

    # ---- inside

    async def _reload(self) -> Reloaded:
        fresh, changes = reread(self.loaded, self._environ)
        self._number += 1
        poll = Poll(frozenset(self.supervisor.alive()))
        pending = self._pending = _Pending(self._number, fresh, open_log(fresh), poll)
        try:
            for worker in poll.asked:
                self.supervisor.tell(worker, *self._prepare(pending))
            outcome = await self._outcome(poll)
            # What can't be had must be missed before the workers are told.
            own = pending.outputs.again() if outcome is Outcome.COMMIT else logs.STDERR
        except BaseException:
            self._drop(pending)
            raise
        if outcome is Outcome.ABORT:
            self._drop(pending)
            raise ConfigError(self._problems(poll))
        self._pending = None
        self._commit(pending, own)
        for change in changes:
            log.log(change.level, "%s", change.text)
        return Reloaded(poll.hung, [change.text for change in changes if change.waits])

    def _drop(self, pending: _Pending) -> None:
        self._pending = None
        self.supervisor.tell_all(Abort(pending.number))
        pending.outputs.close()

    def _commit(self, pending: _Pending, own: logs.Outputs) -> None:
        """Put it in force, which can't fail any more; this process logs to `own`."""
        self.loaded = pending.loaded
        self._outputs.close()
        self._outputs = pending.outputs
        self.supervisor.tell_all(Commit(pending.number))
        logs.follow("control", self.loaded.config.settings, own)
        self._changed()

    async def _outcome(self, poll: Poll) -> Outcome:
        """Wait for the workers, as far as they move."""
        end = time.monotonic() + PREPARE_TIMEOUT
        while (outcome := poll.outcome) is None:
            self._heard.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), LOOK)
            late = time.monotonic() > end
            for worker in list(poll.waiting):
                if late or self.supervisor.workers[worker].heartbeat.hangs:
                    poll.hangs(worker)
        return outcome

    def _problems(self, poll: Poll) -> list[Problem]:
        place = Place(self.loaded.config.path)
        said = poll.problems or dict.fromkeys(sorted(poll.ended), "ended while it prepared the new configuration")
        return [Problem(place, "", f"{self.supervisor.name(worker)}: {text}") for worker, text in said.items()]

    def _prepare(self, pending: _Pending) -> tuple[Message, list[int]]:
        message, fds = self._message(pending.loaded, pending.outputs)
        return Prepare(pending.number, message), fds

    def _message(self, loaded: Loaded, outputs: logs.Outputs) -> tuple[Configure, list[int]]:
        users = {name: raw(secret) for name, secret in loaded.users.items()}
        seed = mock_seed(loaded, self._drawn)
        return Configure(loaded.config, users, self._workers, seed, loaded.files), outputs.again().fds


def mock_seed(loaded: Loaded, drawn: bytes) -> bytes:
    """32 bytes that decide what users look like who don't exist (see `auth.decoys`), from what outlives a restart.

    Never from the secrets of users: a salt that is shown to anybody would then tell whether a password was guessed.
    """
    settings = loaded.config.settings
    lasting = settings.auth_mock_seed.encode() or loaded.files.get(settings.client_tls_key_file, b"")
    return hmac.digest(lasting, b"pglido: what users look like who don't exist", "sha256") if lasting else drawn


def _tell(failure: ConfigError) -> ConfigError:
    for line in str(failure).splitlines():
        log.error("reload: %s", line)
    log.error("reload failed, the old configuration stays in force")
    return failure

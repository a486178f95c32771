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
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .. import log as logs
from ..admin.control_api import Reloaded
from ..auth.secrets import raw
from ..config.errors import ConfigError, Place, Problem
from ..config.model import rows
from ..config.values import render
from ..ipc.messages import Abort, Command, Commit, Configure, Message, Prepare
from . import daemon
from .commands import AT_ONCE, Commands, Verdicts
from .reload import Loaded, Note, open_log, reread, with_setting
from .supervisor import Greeting, Supervisor
from .two_phase import Outcome, outcome_of

log = logging.getLogger("pglido.control")



class _Pending(NamedTuple):
    """What is being prepared, by the command with this number."""

    number: int
    loaded: Loaded
    outputs: logs.Outputs


class Rollout:
    """Holds what is in force. `changed` is called right after something else is."""

    def __init__(
        self,
        loaded: Loaded,
        outputs: logs.Outputs,
        supervisor: Supervisor,
        commands: Commands,
        changed: Callable[[], None],
        environ: Mapping[str, str] | None,
    ) -> None:
        self.loaded = loaded
        self._in_file: dict[str, object] = {}
        self._outputs = outputs
        self._supervisor = supervisor
        self._commands = commands
        self._changed = changed
        self._environ = environ
        self._drawn = secrets.token_bytes(32)
        self._lock = asyncio.Lock()
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
            reloaded = await self._change("reload", lambda: reread(self.loaded, self._environ))
            self._in_file = {}
            return reloaded

    async def set_value(self, key: str, text: str) -> set[int]:
        """Put another value of one key in force, until all have taken it; returns the workers that hang.

        Raises ConfigError; then all is as it was.
        """
        async with self._lock:
            before = self._value(key)
            taken = await self._change("SET", lambda: with_setting(self.loaded, key, text))
            in_file = self._in_file.get(key, before)
            kept = {name: value for name, value in self._in_file.items() if name != key}
            self._in_file = kept if in_file == self._value(key) else {**kept, key: in_file}
            return taken.hung

    @property
    def in_file(self) -> dict[str, str]:
        """The values in the file, as texts, of the keys for which another was set since that was read."""
        return {key: render(rows()[key], value) for key, value in self._in_file.items()}

    def close(self) -> None:
        """Nobody will be greeted any more."""
        self._outputs.close()
        self._outputs = logs.STDERR

    # ---- inside

    def _value(self, key: str) -> object:
        return getattr(self.loaded.config.settings, key)

    async def _change(self, what: str, read: Callable[[], tuple[Loaded, list[Note]]]) -> Reloaded:
        """Put in force what is read; the service manager and the log are told."""
        daemon.notify("RELOADING=1", daemon.reloading())
        try:
            return await self._roll_out(*read())
        except ConfigError as error:
            _tell(what, error)
            raise
        except OSError as error:  # of descriptors there were not enough
            place = Place(self.loaded.config.path)
            raise _tell(what, ConfigError([Problem(place, "", error.strerror or str(error))])) from error
        finally:
            daemon.notify("READY=1")

    async def _roll_out(self, fresh: Loaded, changes: list[Note]) -> Reloaded:
        outputs = open_log(fresh)
        with self._commands.under_way(self._supervisor.alive()) as verdicts:
            pending = self._pending = _Pending(verdicts.number, fresh, outputs)
            try:
                for worker in verdicts.asked:
                    self._supervisor.tell(worker, *self._prepare(pending))
                await self._commands.heard(verdicts, AT_ONCE)
                outcome = outcome_of(verdicts)
                # What can't be had must be missed before the workers are told.
                own = outputs.again() if outcome is Outcome.COMMIT else logs.STDERR
            except BaseException:
                self._drop(pending)
                raise
        if outcome is not Outcome.COMMIT:
            self._drop(pending)
            raise ConfigError(self._problems(verdicts))
        self._put_in_force(pending, own)
        commit = Commit(pending.number)
        taken = await self._commands.run(commit, self._supervisor.alive(), AT_ONCE)
        for change in changes:
            log.log(change.level, "%s", change.text)
        return Reloaded(taken.hung, [change.text for change in changes if change.waits])

    def _drop(self, pending: _Pending) -> None:
        self._pending = None
        self._supervisor.tell_all(Abort(pending.number))
        pending.outputs.close()

    def _put_in_force(self, pending: _Pending, own: logs.Outputs) -> None:
        """From now on a new worker gets this, which can't fail any more; this process logs to `own`."""
        self._pending = None
        self.loaded = pending.loaded
        self._outputs.close()
        self._outputs = pending.outputs
        logs.follow("control", self.loaded.config.settings, own)
        self._changed()

    def _problems(self, verdicts: Verdicts) -> list[Problem]:
        place = Place(self.loaded.config.path)
        ended = dict.fromkeys(sorted(verdicts.ended), "ended while it prepared the new configuration")
        said = verdicts.problems or ended
        return [Problem(place, "", f"{self._supervisor.name(worker)}: {text}") for worker, text in said.items()]

    def _prepare(self, pending: _Pending) -> tuple[Message, list[int]]:
        message, fds = self._message(pending.loaded, pending.outputs)
        return Command(pending.number, Prepare(message)), fds

    def _message(self, loaded: Loaded, outputs: logs.Outputs) -> tuple[Configure, list[int]]:
        users = {name: raw(secret) for name, secret in loaded.users.items()}
        seed = mock_seed(loaded, self._drawn)
        return Configure(loaded.config, users, len(self._supervisor.workers), seed, loaded.files), outputs.again().fds


def mock_seed(loaded: Loaded, drawn: bytes) -> bytes:
    """32 bytes that decide what users look like who don't exist (see `auth.decoys`), from what outlives a restart.

    Never from the secrets of users: a salt that is shown to anybody would then tell whether a password was guessed.
    """
    settings = loaded.config.settings
    lasting = settings.auth_mock_seed.encode() or loaded.files.get(settings.client_tls_key_file, b"")
    return hmac.digest(lasting, b"pglido: what users look like who don't exist", "sha256") if lasting else drawn


def _tell(what: str, failure: ConfigError) -> ConfigError:
    for line in str(failure).splitlines():
        log.error("%s: %s", what, line)
    log.error("%s failed, the old configuration stays in force", what)
    return failure

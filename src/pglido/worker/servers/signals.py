"""Clients that cancel or terminate others by the process ids which those got at login (pg_cancel_backend and the like).

The statement waits until a server process stands in for each (see `stand_in`), in the worker whose client it is, and
gets that one's process id instead. What is done to the process is done to the client. A number that is no client's, or
one's of another PostgreSQL, stays what it is, and PostgreSQL warns that there is no such process.
"""

import asyncio
from collections.abc import Callable
from itertools import count

from ...ipc import messages as ipc
from ...ipc.channel import Channel
from ...pooling.states import OPEN
from ...protocol import codes, messages
from ...relay.stage import LISTEN_ONLY, RAW
from ..cancel_keys import serials_of, worker_of
from ..connections import ClientConnection
from ..lifecycle import Lifecycle
from ..standing import WITH_SESSION
from .stand_in import CANCELLED, NAP, TERMINATED, StandIn

# Process ids that one statement gets at most; and those who stand in at a time in one worker.
MOST_TARGETS = 8
MOST = 16
# Seconds that a statement waits for them at most, and then has for saying their process ids.
PATIENCE = NAP / 2

Over = Callable[[], None]


class SignalRequests:
    """Those of one worker; `workers` is how many there are, `channel` leads to them."""

    def __init__(self, lifecycle: Lifecycle, channel: Channel[ipc.ToWorker]) -> None:
        self.lifecycle = lifecycle
        self.channel = channel
        self.workers = 1
        self._numbers = count(1)
        self._looking: set[ClientConnection] = set()
        # What is to be told when a client's statement is done.
        self._ties: dict[ClientConnection, list[Over]] = {}
        # Asked of other workers, and by them.
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._lent: dict[tuple[int, int], StandIn] = {}
        self._standing = 0

    def wished(self, client: ClientConnection) -> bool:
        """See that there is a process for each of the client's targets: it goes on by itself, and so never at once."""
        if client not in self._looking:
            self._looking.add(client)
            self.lifecycle.spawn(self._look(client, client.session.signal_targets))
        return False

    def done(self, client: ClientConnection) -> None:
        """What the client has asked for is done."""
        client.tied = False
        for over in self._ties.pop(client, ()):
            over()

    async def _look(self, client: ClientConnection, signal_targets: tuple[int, ...]) -> None:
        processes = dict.fromkeys(signal_targets, 0)
        overs: list[Over] = []
        try:
            async with asyncio.timeout(PATIENCE):
                for signal_target in signal_targets[:MOST_TARGETS]:
                    processes[signal_target] = await self._process(client, signal_target, overs)
        except TimeoutError:
            pass
        finally:
            self._looking.discard(client)
        if client.closed or client.serial not in self.lifecycle.clients:
            for over in overs:
                over()
            return
        client.session.signal_targets = ()
        client.session.processes = processes
        if overs:
            client.tied = True
            self._ties.setdefault(client, []).extend(overs)
            asyncio.get_running_loop().call_later(PATIENCE, self._expired, client, processes, overs)
        if client.waiting and not client.late:
            client.waiting = False
            try:
                self.lifecycle.relay.resume(client)
            except Exception:
                self.lifecycle.failed(client)

    def _expired(self, client: ClientConnection, processes: dict[int, int], overs: list[Over]) -> None:
        """Nobody stands in any more: what has not been sent must not say these processes."""
        if client.session.processes is processes:
            client.session.processes = None
        for over in overs:
            over()
        left = [over for over in self._ties.pop(client, ()) if over not in overs]
        if left:
            self._ties[client] = left

    async def _process(self, client: ClientConnection, signal_target: int, overs: list[Over]) -> int:
        """The process id for one target, 0 where there is none; to `overs` goes what ends its need."""
        server = client.server
        if server is None:
            return 0
        if signal_target == client.session.process:
            own: int = server.pid
            return own
        worker = worker_of(signal_target)
        if worker == self.lifecycle.index:
            stand_in = await self._stand_in(signal_target, client.session.cancels, server.address)
            if stand_in is None:
                return 0
            overs.append(stand_in[0].done)
            return stand_in[1]
        if not 0 <= worker < self.workers:
            return 0
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self.channel.post(ipc.StandInAt(worker, signal_target, client.session.cancels, server.address, number))
        overs.append(lambda: self.channel.post(ipc.StandInOver(worker, self.lifecycle.index, number)))
        try:
            process: int = await answer
            return process
        finally:
            del self._answers[number]

    async def _stand_in(self, signal_target: int, cancels: bool, address: str) -> tuple[StandIn, int] | None:
        """Who stands in for this client of ours, and its process id."""
        target = self._client(signal_target)
        if target is None or self._standing >= MOST or target.pool.gate != OPEN:
            # No server is opened for a pool that is paused.
            return None
        self._standing += 1
        stand_in = StandIn(self.lifecycle, target, self._struck)
        process = 0
        try:
            process = await stand_in.open(address, cancels)
        finally:
            self._standing -= not process
        if not process:
            return None
        self.lifecycle.spawn(self._stand(stand_in))
        return stand_in, process

    async def _stand(self, stand_in: StandIn) -> None:
        try:
            await stand_in.stand()
        finally:
            self._standing -= 1

    def _client(self, signal_target: int) -> ClientConnection | None:
        """The client of this worker that got this number at login."""
        for serial in serials_of(signal_target, self.lifecycle.serial):
            client = self.lifecycle.clients.get(serial)
            if client is not None and (client.stage == LISTEN_ONLY or client.stage in WITH_SESSION):
                return client
        return None

    def _struck(self, target: ClientConnection, sqlstate: str, body: bytes) -> None:
        """What was done to who stands in is done to the client."""
        if target.closed or target.serial not in self.lifecycle.clients:
            return
        if sqlstate == CANCELLED:
            self.lifecycle.cancels.cancel_client(target)
        elif sqlstate == TERMINATED:
            server = target.server
            whole = target.stage != RAW and (server is None or server.session.between_messages())
            why = messages.report_fields(body).get("M", "")
            self.lifecycle.end(target, why, messages.message(codes.ERROR_RESPONSE, body) if whole else b"")

    # For clients of other workers.

    def asked_elsewhere(self, message: ipc.StandInHere) -> None:
        """A client of another worker wants to cancel or terminate one of ours."""
        self.lifecycle.spawn(self._expose(message))

    async def _expose(self, message: ipc.StandInHere) -> None:
        process = 0
        try:
            async with asyncio.timeout(PATIENCE):
                stand_in = await self._stand_in(message.pid, message.cancels, message.address)
            if stand_in is not None:
                key = message.sender, message.number
                self._lent[key], process = stand_in
                asyncio.get_running_loop().call_later(NAP, self._lent.pop, key, None)
        except TimeoutError:
            pass
        finally:
            self.channel.post(ipc.StandInIs(message.sender, message.number, process))

    def answered(self, message: ipc.StandInIs) -> None:
        """Another worker has what one of our clients wants."""
        answer = self._answers.get(message.number)
        if answer is not None and not answer.done():
            answer.set_result(message.process)

    def over_elsewhere(self, message: ipc.StandInOver) -> None:
        """The other worker's client is done."""
        stand_in = self._lent.pop((message.sender, message.number), None)
        if stand_in is not None:
            stand_in.done()

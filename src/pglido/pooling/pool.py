"""The servers of one pool in one worker, and the clients in line for them: pure policy.

Rules:
1. Clients are served in the order in which they came. A newcomer passes nobody.
2. A lease is the right to one server connection; leases are granted and recalled by the broker, which alone
   counts limits. There are never more slots than leases, but for a lease recalled while all slots are busy.
3. A client gets servers of its own generation or a later one: what sessions begin with is another with each.
4. While the gate is not open nobody is given a server: newcomers stand in line, and servers are closed when free.
5. Nothing happens here: `plan` says what to do, others do it and report. Time is passed in, chance injected.

A slot is one server connection as seen from here; `server` is whatever its owner keeps there.

    OPENING --opened--> IDLE --take/freed--> BUSY --freed--> IDLE ...
    IDLE --plan: CHECK--> CHECKING --freed--> IDLE or BUSY;  any --closed--> gone
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from .limits import FOREVER, Limits
from .outage import Outage, last_error, lasts
from .queue import Queue, QueueMember, Ticket
from .states import BUSY, CHECKING, CLOSING, IDLE, OPEN, OPENING, PAUSED, SHUT, STATES

# How far down the stack of idle servers to look for one whose settings fit.
LOOK = 8
# Seconds between two changes of what is asked of the broker.
WANT_INTERVAL = 0.05
# Seconds between two wishes that differ by a quarter or less: the broker is told again how long the oldest waits.
WANT_AGAIN = 0.15
# Seconds for which a lease that came too late is kept, if no other worker needs it: at the next peak nobody is asked.
# (Given back at once, peaks cost two messages each, a twentieth of the time of logins by SCRAM.)
SPARE = 1.0


class Verb(enum.Enum):
    """What a plan asks for."""

    CONNECT = "open a server connection for this slot"
    CHECK = "see whether the server of this idle slot is alive, then report it freed or closed"
    CLOSE = "close the server of this slot"
    REJECT = "tell the client of this ticket why it can't be served"
    NOTIFY = "tell the client of this ticket that it waits"
    WANT = "ask the broker for this many leases (0: none any more)"
    RETURN = "give this many leases back to the broker"
    KEPT = "tell the broker that nothing is idle"


class Plan(NamedTuple):
    """One thing to do."""

    verb: Verb
    slot: "ServerSlot | None" = None
    ticket: "Ticket | None" = None
    number: int = 0
    problem: tuple[str, str] | None = None
    detail: str = ""


class ServerSlot(QueueMember):
    """One server connection; times are monotonic seconds.

    `startup_params` is what it was opened with, `settings` what it has now: both are compared by identity only.
    `generation` is the pool's when it was opened. `doomed`: to be closed when free; `retired`: because
    all servers are to be replaced; `recalled`: its lease goes back to
    the broker then; `used`: a client has had it. It stands in the pool's line of idle ones while it is one of them.
    """

    __slots__ = (
        "born",
        "dies",
        "doomed",
        "generation",
        "pool",
        "recalled",
        "retired",
        "server",
        "settings",
        "since",
        "startup_params",
        "state",
        "used",
    )

    def __init__(self, pool: "Pool", startup_params: object, now: float) -> None:
        self.pool = pool
        self.state = OPENING
        self.startup_params = startup_params
        self.settings = startup_params
        self.generation = pool.generation
        self.server: Any = None
        self.born = now
        self.since = now
        self.dies = 0.0
        self.doomed = False
        self.recalled = False
        self.retired = False
        self.used = False
        self.ahead = self.behind = None
        self.stands = False

    def __repr__(self) -> str:
        return f"<ServerSlot {STATES[self.state]}{' doomed' if self.doomed else ''}>"


class Pool:
    """One worker's part of the pool `key` = (database, user towards the server); `clients` of it are logged in.

    Of these `comers` came for a server in this `period`: who comes is counted unless it has this number already.
    `generation` is that of clients who log in now.
    """

    def __init__(self, key: tuple[str, str], limits: Limits, chance: Callable[[], float]) -> None:
        self.key = key
        self.chance = chance
        self.minimum = 0
        self.adopt(limits)
        self.slots: dict[ServerSlot, None] = {}
        self.idle = Queue()
        self.line = Queue()
        # Of those in line: who is not let in yet.
        self.logins: dict[Ticket, None] = {}
        self.clients = 0
        self.opening = 0
        self.leases = 0
        self.generation = 0
        self.granted = 0
        self.recalls = 0
        self.returned = 0
        self.asked = 0
        self.asked_at = -WANT_INTERVAL
        self.outage = Outage()
        self.gate = OPEN
        # Up to here those in line have been told that they wait.
        self.notified: Ticket | None = None
        self.wait_time = 0.0
        self.assignments = 0
        self.busy_time = 0.0
        self.period = 1
        self.comers = 0
        self.loaded_at = 0.0

    def __repr__(self) -> str:
        counts = [(name, self.count(state)) for state, name in STATES.items()]
        states = " ".join([f"{name}={count}" for name, count in counts if count])
        return f"<Pool {'/'.join(self.key)} leases={self.leases} {states or 'empty'} waiting={self.line.size}>"

    def adopt(self, limits: Limits) -> None:
        """Go by these limits from now on."""
        self.limits = limits
        self.check_delay = limits.check_delay
        self.round_robin = limits.round_robin
        self.startup_params = limits.startup_params

    def count(self, state: int) -> int:
        """How many slots are in this state."""
        return len([slot for slot in self.slots if slot.state == state])

    # The byte path.

    def take(self, startup_params: object, settings: object, now: float, generation: int = 0) -> ServerSlot | None:
        """An idle server for a newcomer, or None: then it must wait."""
        if self.line.size or not self.idle.size:
            return None
        found: ServerSlot = self.idle.front if self.round_robin else self.idle.back
        slot: ServerSlot | None = self.idle.back
        for _ in range(LOOK):
            if slot is None or slot.since + self.check_delay <= now:
                break
            if slot.startup_params is startup_params and slot.generation >= generation:
                if slot.settings is settings:
                    found = slot
                    break
                if not self.round_robin or found.startup_params is not startup_params or found.generation < generation:
                    # Where none fits, whoever had the one that has rested longest is the least likely to miss it.
                    found = slot
            slot = slot.ahead
        if (
            found.startup_params is not startup_params
            or found.generation < generation
            or found.since + self.check_delay <= now
        ):
            return None
        self.idle.leave(found)
        found.state = BUSY
        found.used = True
        found.since = now
        self.assignments += 1
        return found

    def wait(self, client: Any, startup_params: object, settings: object, now: float, generation: int = 0) -> Ticket:
        """A client stands in line, behind all others."""
        ticket: Ticket = Ticket.__new__(Ticket)
        ticket.client = client
        ticket.startup_params = startup_params
        ticket.settings = settings
        ticket.generation = generation
        ticket.since = now
        ticket.notified = False
        ticket.login = False
        self.line.join(ticket)
        return ticket

    def wait_for_login(
        self, client: Any, startup_params: object, settings: object, now: float, generation: int = 0
    ) -> Ticket:
        """A client that is not let in yet stands in line: it is told when the pool is known to fail."""
        ticket = self.wait(client, startup_params, settings, now, generation)
        ticket.login = True
        self.logins[ticket] = None
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """A client stands in line no more; who does not may leave again."""
        self.line.leave(ticket)
        if ticket.login:
            self.logins.pop(ticket, None)

    def freed(self, slot: ServerSlot, settings: object, now: float) -> Ticket | None:
        """The server of `slot` is clean and free: the next ticket to serve with it, or None.

        With None the slot is IDLE, or CLOSING: then its server must be closed and `closed` called.
        """
        if slot.state == OPENING or slot.state == CHECKING:
            self.opening -= 1
        elif slot.state == BUSY:
            self.busy_time += now - slot.since
        slot.settings = settings
        if self.recalls:
            self.recalls -= 1
            slot.recalled = True
        if slot.doomed or slot.recalled or (slot.used and now >= slot.dies) or self.gate != OPEN:
            slot.state = CLOSING
            return None
        slot.since = now
        ticket: Ticket | None = self.line.front
        if ticket is not None and ticket.startup_params is slot.startup_params and ticket.generation <= slot.generation:
            self.leave(ticket)
            slot.state = BUSY
            slot.used = True
            self.assignments += 1
            self.wait_time += now - ticket.since
            return ticket
        slot.state = IDLE
        self.idle.join(slot)
        return None

    def needs_plan(self, now: float) -> bool:
        """Somebody has joined the line: is there something to be done for those who wait that was not done yet?

        Then `plan` should be asked at once.
        """
        needed = self._needed(now)
        if needed <= 0:
            return False
        if self.idle.size:
            return True
        if self.leases > len(self.slots):
            return now >= self.outage.retry_at
        return now >= self.asked_at + self._pause(needed)

    def fails(self, now: float) -> bool:
        """Is there no server, and no hope of one soon? Nobody is let in then without having got one."""
        return len(self.slots) <= self.opening and self.outage.known(now)

    def refusal(self, now: float) -> tuple[str, str] | None:
        """What a client that logs in is told at once (SQLSTATE, text), in PgBouncer's words; None: it may wait.

        It is told while the pool fails, but for who comes when the next attempt is due.
        """
        problem = self.outage.problem
        if problem is None or not self.fails(now) or (now >= self.outage.retry_at and not self.opening):
            return None
        sqlstate, text = problem
        return sqlstate, f"server login has been failing, cached error: {text} (server_login_retry)"

    # Reports.

    def opened(self, slot: ServerSlot, now: float) -> None:
        """The server of `slot` is logged in; report it freed next."""
        self.outage.over()
        life = self.limits.lifetime * (1 - self.limits.lifetime_jitter * self.chance())
        slot.born = now
        slot.dies = now + life

    def failed(self, slot: ServerSlot, sqlstate: str, text: str, now: float) -> None:
        """The server of `slot` could not be reached or did not let us in."""
        self.closed_slot(slot)
        self.outage.failed(slot.born, now, (sqlstate, text), self.limits.login_retry, self.chance())

    def refused(self, slot: ServerSlot, sqlstate: str, text: str) -> list[Plan]:
        """The server of `slot` did not like what it was opened with: that concerns the client who asked for it."""
        self.closed_slot(slot)
        ticket = self.line.front
        while ticket is not None:
            if ticket.startup_params is slot.startup_params:
                return [self._reject(ticket, (sqlstate, text))]
            ticket = ticket.behind
        return []

    def closed_slot(self, slot: ServerSlot) -> None:
        """The server of `slot` is gone."""
        if slot not in self.slots:
            return
        del self.slots[slot]
        if slot.state == IDLE:
            self.idle.leave(slot)
        elif slot.state == OPENING or slot.state == CHECKING:
            self.opening -= 1
        slot.state = CLOSING
        if self.recalls and not slot.recalled:
            self.recalls -= 1
            slot.recalled = True
        if slot.recalled:
            # Its lease goes back, whoever waits here.
            self.leases -= 1
            self.returned += 1

    def grant(self) -> None:
        """The broker granted a lease."""
        self.leases += 1
        self.granted += 1
        self.asked = max(0, self.asked - 1)

    def recall(self, idle_only: bool, now: float, rest: float = 0.0) -> list[Plan]:
        """The broker wants a lease back: at once if one is unused or idle, else (not `idle_only`) the next freed.

        With `idle_only` a server that has not rested for `rest` seconds is not idle: where nobody has waited for long,
        opening it elsewhere would cost more than the wait. Nor is a lease that has just come for somebody who waits.
        """
        unused = self.leases - len(self.slots)
        if unused > (max(0, self.line.size - self.opening) if idle_only else 0):
            self.leases -= 1
            return [Plan(Verb.RETURN, number=1)]
        if not self.leases:
            return []
        rested: ServerSlot | None = self.idle.front
        if rested is not None and (not idle_only or now - rested.since >= rest):
            rested.recalled = True
            return [self._close(rested)]
        if idle_only:
            return [Plan(Verb.KEPT)]
        self.recalls += 1
        return []

    def set_gate(self, gate: int) -> list[Plan]:
        """From now on serve those in line, let them wait, or refuse them, see `states`; `plan` should be asked next."""
        self.gate = gate
        return [] if gate == OPEN else self._close_idle()

    def released(self) -> bool:
        """Is no server left, nor one being opened?"""
        return not self.slots

    def retired(self) -> bool:
        """Are all servers gone that were to be replaced?"""
        return not [slot for slot in self.slots if slot.retired]

    def retire(self) -> list[Plan]:
        """Replace every server: idle ones now, busy ones when they are freed."""
        for slot in self.slots:
            slot.doomed = slot.retired = True
        return self._close_idle()

    def _close_idle(self) -> list[Plan]:
        return [self._close(slot) for slot in self.idle.all()]

    def _close(self, slot: ServerSlot) -> Plan:
        self.idle.leave(slot)
        slot.state = CLOSING
        return Plan(Verb.CLOSE, slot)

    # Policy.

    def plan(self, now: float) -> list[Plan]:
        """What is to be done now. To be called after reports, when `needs_plan` says so, and from time to time."""
        plans = self._rejections(now)
        plans += self._connections(now)
        plans += self._leases(now)
        return plans

    def _rejections(self, now: float) -> list[Plan]:
        limits = self.limits
        if self.gate == SHUT:
            return [self._reject(ticket, ("3D000", "database is no longer configured")) for ticket in self.line.all()]
        plans = self._failures(now) if not self.slots else []
        # Who stands behind came later: so what is not due for one is not for those behind.
        ticket: Ticket | None = self.line.front
        while ticket is not None and limits.wait_timeout and now - ticket.since > limits.wait_timeout:
            late, ticket = ticket, ticket.behind
            plans.append(self._too_late(late))
        if self.notified is not None and self.notified.stands:
            ticket = self.notified.behind
        while ticket is not None and limits.wait_notify and now - ticket.since > limits.wait_notify:
            if not ticket.notified:
                ticket.notified = True
                detail = last_error(self.outage.met_since(ticket.since))
                plans.append(Plan(Verb.NOTIFY, ticket=ticket, detail=detail))
            self.notified, ticket = ticket, ticket.behind
        return plans

    def _failures(self, now: float) -> list[Plan]:
        """There is no server, and an attempt has failed: some of those who wait are told of it."""
        outage = self.outage
        problem = outage.problem
        if problem is None or now >= outage.retry_at or not outage.known(now):
            return []
        told = self.line.all() if lasts(problem[0]) else list(self.logins)
        return [self._reject(ticket, problem) for ticket in told]

    def _too_late(self, ticket: Ticket) -> Plan:
        """The end of query_wait_timeout; who is not let in yet is told why no server can be had, where that is so."""
        met = self.outage.met_since(ticket.since)
        if met is not None and ticket.login and not self.slots:
            return self._reject(ticket, met, "query_wait_timeout")
        detail = "the database is paused" if self.gate == PAUSED else last_error(met)
        return self._reject(ticket, ("08P01", "query_wait_timeout"), detail)

    def _reject(self, ticket: Ticket, problem: tuple[str, str], detail: str = "") -> Plan:
        self.leave(ticket)
        return Plan(Verb.REJECT, ticket=ticket, problem=problem, detail=detail)

    def _connections(self, now: float) -> list[Plan]:
        """Serve, check, close idle ones, and open new ones as leases allow."""
        limits = self.limits
        plans = []
        for slot in [slot for slot in self.idle.all() if self._too_old(slot, now)]:
            plans.append(self._close(slot))
        if self.gate != OPEN:
            return plans
        within = self.leases > len(self.slots)
        needed = self.line.size - self.opening
        room = limits.parallel_connects - self.opening
        ahead: list[Ticket] = []
        if needed > 0 and (self.idle.size or within):
            # No more of them than something could be done for now.
            ahead = self.line.first(self.opening + self.idle.size + max(0, room))[max(0, self.opening) :]
        births = []
        for ticket in ahead:
            plan = self._check_or_make_room(ticket) if self.idle.size else None
            if plan is not None:
                plans.append(plan)
            if plan is None or plan.verb is Verb.CLOSE:
                births.append(ticket.startup_params)
        wanted = self._needed(now)
        room = limits.parallel_connects - self.opening
        asked = iter(births)
        while wanted > 0 and room > 0 and self.leases > len(self.slots) and now >= self.outage.retry_at:
            slot = ServerSlot(self, next(asked, limits.startup_params), now)
            self.slots[slot] = None
            self.opening += 1
            plans.append(Plan(Verb.CONNECT, slot))
            wanted -= 1
            room -= 1
        return plans

    def _check_or_make_room(self, ticket: Ticket) -> Plan:
        """An idle server was not taken: see whether one that fits is alive, or close one to open one that fits."""
        slot: ServerSlot | None = self.idle.back
        while slot is not None and (
            slot.startup_params is not ticket.startup_params or slot.generation < ticket.generation
        ):
            slot = slot.ahead
        if slot is None:
            return self._close(self.idle.front)
        self.idle.leave(slot)
        slot.state = CHECKING
        self.opening += 1
        return Plan(Verb.CHECK, slot)

    def _needed(self, now: float) -> int:
        """How many servers to open; while none can be had, one is tried at a time."""
        if self.gate != OPEN:
            return 0
        needed = max(self.line.size - self.opening, self._missing_to_minimum())
        return min(needed, 1 - self.opening) if self.outage.lately(now) else needed

    def _missing_to_minimum(self) -> int:
        return max(0, self.minimum - len(self.slots))

    def _too_old(self, slot: ServerSlot, now: float) -> bool:
        worn = now >= slot.dies and (slot.used or self.limits.lifetime > 0)
        if slot.doomed or worn or self.gate != OPEN:
            return True
        idle_too_long = self.limits.idle_timeout and now - slot.since > self.limits.idle_timeout
        return bool(idle_too_long) and len(self.slots) > self.minimum

    def _leases(self, now: float) -> list[Plan]:
        """Ask the broker for what is missing, give back what is not needed."""
        plans = []
        spare = self.leases - len(self.slots)
        needed = max(0, self._needed(now))
        if spare > needed and (self.gate != OPEN or now >= self.asked_at + SPARE):
            self.leases -= spare - needed
            self.returned += spare - needed
            spare = needed
        if self.returned:
            plans.append(Plan(Verb.RETURN, number=self.returned))
            self.returned = 0
        wants = max(0, needed - max(0, spare))
        if wants:
            # The leases of servers that are being closed here come free at once.
            wants = max(0, wants - len([slot for slot in self.slots if slot.state == CLOSING and not slot.recalled]))
        if now >= self.asked_at + self._pause(wants):
            self.asked = wants
            self.asked_at = now
            plans.append(Plan(Verb.WANT, number=wants))
        return plans

    def _pause(self, wants: int) -> float:
        """How long after the broker was asked it may be asked for so many."""
        if not wants and not self.asked:
            return FOREVER
        if wants and self.asked and 4 * abs(wants - self.asked) <= self.asked:
            return WANT_AGAIN
        return WANT_INTERVAL

    def load(self, now: float) -> tuple[float, int, float, int]:
        """What clients went through so far: seconds of waiting, how often one got a server, seconds of having one; and
        how many wanted one since this was asked before.

        Of those who wait or have one still, what it has been till now.
        """
        waited = [now - ticket.since for ticket in self.line.all()]
        busy = [now - slot.since for slot in self.slots if slot.state == BUSY]
        passed = now - self.loaded_at
        clients = self.comers + len([time for time in waited + busy if time > passed])
        self.loaded_at = now
        self.comers = 0
        self.period += 1
        return self.wait_time + sum(waited), self.assignments, self.busy_time + sum(busy), clients

    def oldest_wait(self) -> float | None:
        """Since when the client in front waits, None without any."""
        return None if self.line.front is None else self.line.front.since

    def unused(self) -> bool:
        """Could it be forgotten: no server, no lease, nobody waiting."""
        return not self.slots and not self.leases and not self.line.size and not self.asked

"""What all sessions of one worker share. One value, made once; nothing reads a global."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.ftp.addresses import ByNetwork, Networks
from appliance.ftp.bans import REFUSAL, Bans
from appliance.ftp.checksums import Checksums
from appliance.ftp.loop import Loop
from appliance.ftp.pool import Pool
from appliance.ftp.present import Present
from appliance.ftp.rates import Rates
from appliance.ftp.record import Record
from appliance.ftp.seats import Seats
from appliance.ftp.senders import Senders
from appliance.ftp.site import Sites
from appliance.ftp.terms import Arrivals, Tariff
from appliance.observe import events
from appliance.observe.emitter import Emitter
from appliance.observe.log import TurnLog
from appliance.observe.tables import Counters
from appliance.published.view import Published
from appliance.settings.ftp import FtpSettings

if TYPE_CHECKING:
    from appliance.ftp.connections import Active, Ports
    from appliance.ftp.session import Session
    from appliance.ftp.spare import Spare
    from appliance.ftp.uploads import Custodian

_LOUD_PER_SECOND = 20  # lines about refused strangers; more are counted and summed up


@dataclass(slots=True)
class House:
    """Settings, tables and the sessions themselves.

    ``dirty`` are sessions with replies to send, flushed once per turn: one send for all replies of a turn. ``ready``
    are sessions whose next command line has arrived already. ``memory`` are the devices that are no disk. ``now`` is
    the monotonic time of this turn.
    """

    settings: FtpSettings
    loop: Loop
    log: TurnLog
    counters: Counters
    sites: Sites
    pool: Pool
    senders: Senders
    checksums: Checksums
    memory: frozenset[int]
    seats: Seats
    tariff: Tariff
    arrivals: Arrivals
    networks: Networks
    passive_ports: Ports
    request_active: Callable[[int, int], int]
    bans: Bans
    ask_ban: Callable[[str], None]
    record: Record
    emitter: Emitter
    present: Present
    published: Published = field(default_factory=Published)
    custodian: Custodian | None = None
    spare: Spare | None = None
    rates: Rates | None = None  # None: nothing is limited, and nothing is counted
    sessions: set[Session] = field(default_factory=set)
    dirty: set[Session] = field(default_factory=set)
    ready: set[Session] = field(default_factory=set)
    connecting: dict[int, Active] = field(default_factory=dict)
    now: float = field(default_factory=time.monotonic)
    draining: bool = False
    under_way: int = 0  # transfers now: they share what a turn of the loop may move
    quiet: int = 0  # lines not written this second
    loud: int = 0
    addresses: dict[str, str] = field(default_factory=dict)  # of the names in `passive_address`, as they are now
    _told: ByNetwork | None = None

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All threads: for what may wait for a disk, and for what waits for a client."""
        return self.pool, self.senders.pool

    def passive_address(self, client: str) -> str | None:
        """What PASV tells a client at this `plain` address; None: the address it reached, also while the address of a
        name is not known."""
        told = self.settings.passive_address
        if told is not None and not isinstance(told, str):
            if self._told is None:
                self._told = ByNetwork((network, item.address) for item in told for network in item.networks)
            told = self._told.find(client)
        if told is None or told.replace(".", "").isdigit():
            return told
        return self.addresses.get(told)

    def strike(self, client: str, address: str) -> None:
        """A client has done what is counted against it."""
        if self.tariff.of(address).ban and self.bans.strike(client, address, self.now):
            self.ask_ban(client)

    def told_ban(self, client: str, seconds: int) -> None:
        """The supervisor bans a client, or lifts its ban: its sessions end."""
        self.bans.told(client, seconds, self.now)
        for session in [session for session in self.sessions if seconds and session.client == client]:
            session.finish("banned", REFUSAL)

    def complain(self, event: str, client: str, reason: str) -> None:
        """Log something a stranger can cause at will: at most some lines a second, the rest as one number."""
        if self.loud >= _LOUD_PER_SECOND:
            self.quiet += 1
            return
        self.loud += 1
        self.log.warning(event, client=client, reason=reason)
        cause = f"{event}: {reason}"
        self.tell(events.Refused(client=client.encode(), cause=cause.encode("utf-8", "surrogateescape")))

    def missed(self, client: str, verb: str, path: str, cause: str) -> None:
        """Log a request that was refused for its path, within the same bounds."""
        if self.loud >= _LOUD_PER_SECOND:
            self.quiet += 1
            return
        self.loud += 1
        self.log.info("refused", client=client, verb=verb, path=path, reason=cause)
        name = path.encode("utf-8", "surrogateescape")
        self.tell(events.Refused(client=client.encode(), verb=verb.encode(), file=name, cause=cause.encode()))

    def tell(self, event: events.Event) -> None:
        """Tell the events service; it leaves a moment later, with others."""
        self.emitter.emit(event, self.now)

    def second(self) -> None:
        """Called once a second."""
        if self.quiet:
            self.log.warning("and more like these", lines=self.quiet)
        self.quiet = self.loud = 0

    def kick(self, row: int) -> None:
        """The administrator ends the session of this row; one that has ended meanwhile is no error."""
        for session in [session for session in self.sessions if session.row == row]:
            session.respond("421 The operator has ended this session.")
            session.flush()
            session.finish("kicked by the operator")

    def crashed(self, client: str) -> None:
        """Count and log the exception that is being handled."""
        self.counters.add("crashes")
        self.log.crash("crash", client=client)
        self.log.flush()

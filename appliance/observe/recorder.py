"""The events service: hears the workers, keeps a bounded history, passes records on to subscribers and readers.

It reads nothing from those who connect to `events.sock`: they are sent descriptors of the history, which can only be
read, and then what happens from now on. Invariant: whoever does not take what he is sent loses it, and holds up nobody;
a disk that is full or broken costs history and nothing else, and is shown (`fault`) until it works again.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import time
from collections import deque

from appliance import wire
from appliance.child.context import Context
from appliance.errors import WireError
from appliance.observe import arp, events, framing, history, macs, spelled
from appliance.observe.log import Log

READERS_MAX = 32
_DATAGRAMS = 16  # taken from one link in one turn
_TURN_S = 0.9
_GATHER_S = 0.01  # what comes in meanwhile is written, and passed on, in one go
_RETRY_S = 2.0  # between two attempts to write to a disk that refuses
_QUEUE_MAX = 1 << 20  # bytes that wait for one who does not read
_BAD_MAX = 100  # datagrams of one link that say nothing sensible; then it is closed
_LAST_TURNS = 64
_OF_CLIENTS = (events.Started, events.Ended, events.Refused, events.Unanswered)
_PIECE = 60_000  # bytes of lines in one datagram to a reader


class _Queue:
    """Datagrams for one peer. What does not fit is counted, and told as soon as there is room."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.missing = 0
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._size = 0

    @property
    def behind(self) -> bool:
        return bool(self._waiting)

    def put(self, datagram: bytes, count: int, descriptors: list[int] | None = None) -> None:
        """`count` events; descriptors are ours to close."""
        if self._size + len(datagram) > _QUEUE_MAX:
            self.missing += count
        else:
            self._waiting.append((datagram, descriptors or []))
            self._size += len(datagram)

    def flush(self) -> bool:
        """Send what is taken; False when the peer is gone."""
        while self._waiting:
            datagram, descriptors = self._waiting[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                self.sock.sendmsg([datagram], rights)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._waiting.popleft()
            self._size -= len(datagram)
            _close(descriptors)
        return True

    def close(self) -> None:
        for _datagram, descriptors in self._waiting:
            _close(descriptors)
        self._waiting.clear()
        self.sock.close()


class _Link(_Queue):
    """The channel of one worker. `may`: the events it may tell."""

    def __init__(self, sock: socket.socket, source: str) -> None:
        super().__init__(sock)
        self.source = source
        service = source.partition(".")[0]
        self.may = events.MAY_TELL.get(service, frozenset())
        self.subscriber = service in events.SUBSCRIBERS
        self.bad = 0


class Recorder:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._channel, self._counters = context.channel, context.counters
        self._log = Log("events", context.settings["log"], lost=lambda: self._counters.add("log_dropped"))
        self._history = history.History(int(context.settings["history"]))
        self._listeners = {sock.fileno(): sock for sock in context.listeners}
        self._macs = macs.Macs(arp.reader())
        self._links: dict[int, _Link] = {}
        self._readers: dict[int, _Queue] = {}
        self._poll = select.epoll()
        self._number = 0
        self._fresh: list[events.Record] = []
        self._retry_at = 0.0
        self._running = True

    def run(self) -> None:
        """Serve until drained: then nobody who could tell anything is left, or a successor is linked at once."""
        self._begin()
        self._poll.register(self._channel.fileno(), select.EPOLLIN)
        for descriptor in self._listeners:
            self._poll.register(descriptor, select.EPOLLIN)
        while self._running:
            self._counters.tick()
            try:
                self._turn()
            except EOFError:
                break
            except Exception:  # the wall
                self._counters.add("crashes")
                self._log.crash("crash")
        self._last_words()

    def _begin(self) -> None:
        try:
            self._number = history.last_number()
        except OSError as error:
            self._broken(error)

    def _turn(self) -> None:
        told = False
        for descriptor, event in self._poll.poll(_TURN_S):
            if descriptor == self._channel.fileno():
                self._hear_supervisor()
            elif descriptor in self._links:
                told |= self._serve(self._links[descriptor], event)
            elif descriptor in self._readers:
                self._serve_reader(self._readers[descriptor], event)
            elif descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
        self._settle()
        if told:
            time.sleep(_GATHER_S)

    # --- what is told

    def _hear_supervisor(self) -> None:
        received = self._channel.receive()
        if received is None:
            return
        message, fds = received
        if isinstance(message, wire.Drain):
            self._running = False
        elif isinstance(message, wire.Link) and len(fds) == 1:
            self._adopt(socket.socket(fileno=fds.pop()), message.name)
        elif isinstance(message, wire.Tell):
            self._take(message.event, "supervisor", events.MAY_TELL["supervisor"])
        _close(fds)

    def _adopt(self, sock: socket.socket, source: str) -> None:
        sock.setblocking(False)
        self._links[sock.fileno()] = _Link(sock, source)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _serve(self, link: _Link, event: int) -> bool:
        """True when it told something."""
        if event & select.EPOLLOUT and not self._send(link):
            self._end(link)
            return False
        for count in range(_DATAGRAMS):
            try:
                datagram = link.sock.recv(framing.DATAGRAM_MAX)
            except BlockingIOError:
                return count > 0
            except OSError:
                datagram = b""
            if not datagram:
                self._end(link)
                return count > 0
            self._hear(link, datagram)
            if link.bad > _BAD_MAX:
                self._log.error("a worker tells nonsense", worker=link.source)
                self._end(link)
                return True
        return True

    def _hear(self, link: _Link, datagram: bytes) -> None:
        try:
            for frame in framing.split(datagram):
                self._take(frame, link.source, link.may)
        except WireError:
            link.bad += 1
            self._counters.add("dropped")

    def _take(self, frame: bytes, source: str, may: frozenset[type]) -> None:
        event = framing.decode(frame)
        if type(event) not in may:
            raise WireError(f"{source} may not tell this")
        if isinstance(event, events.Lost):
            self._counters.add("events_lost", min(event.events, 1 << 40))
        event = self._recognised(event)
        self._number += 1
        self._fresh.append(events.Record(self._number, time.time_ns() // 1_000_000, source, event))
        self._counters.add("transfers")

    def _recognised(self, event: events.Event) -> events.Event:
        """With the MAC address of the client, where somebody knows it."""
        if isinstance(event, events.Dhcp):
            if event.client and event.mac:
                self._macs.told(event.client.decode("latin-1"), event.mac.decode("latin-1"), time.monotonic())
        elif isinstance(event, _OF_CLIENTS) and event.client and not event.mac:
            client, name = event.client.decode("latin-1"), event.file.decode("latin-1")
            mac = self._macs.of(client, name, time.monotonic())
            return event._replace(mac=mac.encode("ascii")) if mac else event
        return event

    # --- keeping and passing on

    def _settle(self) -> None:
        """Write what is new, and pass it on."""
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return
        lines = [spelled.line(record) for record in fresh]
        self._keep(b"".join(lines), len(lines))
        subscribers = [link for link in self._links.values() if link.subscriber]
        if subscribers:
            frames = [framing.encode_record(record) for record in fresh]
            for datagram in framing.join(frames):
                for link in subscribers:
                    self._pass_on(link, datagram, len(framing.split(datagram)))
        if self._readers:
            for piece, count in _pieces(lines):
                for reader in list(self._readers.values()):
                    self._pass_on(reader, piece, count)

    def _keep(self, lines: bytes, count: int) -> None:
        now = time.monotonic()
        if now < self._retry_at:
            self._counters.add("events_lost", count)
            return
        try:
            self._history.append(lines)
        except OSError as error:
            self._counters.add("events_lost", count)
            self._broken(error)
            self._retry_at = now + _RETRY_S
        else:
            if self._retry_at:
                self._retry_at = 0.0
                self._counters.set("fault", 0)
                self._log.info("the history is written again")

    def _broken(self, error: OSError) -> None:
        cause = error.errno or errno.EIO
        if not self._retry_at:
            self._log.error("the history cannot be written", cause=os.strerror(cause))
        self._retry_at = time.monotonic()
        self._counters.set("fault", cause)
        self._history.close()

    def _pass_on(self, peer: _Queue, datagram: bytes, count: int) -> None:
        if peer.missing and not peer.behind:
            missing, peer.missing = peer.missing, 0
            lost = events.Record(self._number, time.time_ns() // 1_000_000, "events", events.Lost(missing, b"queue"))
            if isinstance(peer, _Link):
                peer.put(b"".join(framing.join([framing.encode_record(lost)])), 1)
            else:
                peer.put(spelled.line(lost), 1)
        peer.put(datagram, count)
        if not self._send(peer):
            self._end(peer)

    def _send(self, peer: _Queue) -> bool:
        was = peer.behind
        alive = peer.flush()
        if alive and (was or peer.behind):
            self._poll.modify(peer.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if peer.behind else 0))
        return alive

    def _end(self, peer: _Queue) -> None:
        descriptor = peer.sock.fileno()
        if descriptor < 0:
            return  # it has ended already, in this turn
        self._links.pop(descriptor, None)
        self._readers.pop(descriptor, None)
        self._poll.unregister(descriptor)
        peer.close()
        self._counters.set("active", len(self._readers))

    # --- readers

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _peer = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        if len(self._readers) >= READERS_MAX:
            self._end(next(iter(self._readers.values())))
        self._settle()  # what is in the history by now is not sent once more
        reader = self._readers[sock.fileno()] = _Queue(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN)
        self._counters.set("active", len(self._readers))
        try:
            opened = history.open_all()
        except OSError as error:
            self._broken(error)
            opened = []
        reader.put(b"%d\n" % len(opened), 0, opened)
        if not self._send(reader):
            self._end(reader)

    def _serve_reader(self, reader: _Queue, event: int) -> None:
        if event & select.EPOLLOUT and not self._send(reader):
            self._end(reader)
        elif event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._end(reader)  # it left, or says something, which nobody may

    # --- the end

    def _last_words(self) -> None:
        """What workers told before they left is still in their links."""
        for link in list(self._links.values()):
            for _ in range(_LAST_TURNS):
                if link.sock.fileno() < 0 or not self._serve(link, 0):
                    break
        self._settle()
        self._history.close()
        for peer in [*self._links.values(), *self._readers.values()]:
            self._end(peer)
        self._poll.close()


def _pieces(lines: list[bytes]) -> list[tuple[bytes, int]]:
    """Lines as datagrams, and how many are in each."""
    pieces: list[tuple[bytes, int]] = []
    held: list[bytes] = []
    for line in lines:
        if held and sum(map(len, held)) + len(line) > _PIECE:
            pieces.append((b"".join(held), len(held)))
            held = []
        held.append(line)
    return [*pieces, (b"".join(held), len(held))]


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def prepare(context: Context) -> Recorder:
    """The `main` of the events service: settings `history` (bytes) and `log`."""
    return Recorder(context)

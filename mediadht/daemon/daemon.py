"""The daemon: a node, its driver, its disk and its connections, behind the public face.

`open_daemon` is the only way in: entering it loads the state, listens and starts; leaving it hands over what others
should keep, says goodbye, writes what is unwritten and closes, within `SHUTDOWN_S`. Everything it starts runs in its
one nursery.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from prometheus_client import CollectorRegistry

import mediadht
from mediadht.core.constants import CLOCK_WARNING_S
from mediadht.core.contacts import Contact
from mediadht.core.errors import CallerError, Code, ConfigurationError, EnvironmentFault
from mediadht.core.events import (
    AnnouncementProgress,
    Leave,
    Left,
    LookupEnded,
    Notice,
    PingEnded,
    ProviderFound,
    RecordDropped,
    RecordKept,
    Start,
)
from mediadht.core.identifiers import Subject
from mediadht.core.keys import KeyPair, node_id_hex
from mediadht.core.node import Node
from mediadht.core.session import Hello
from mediadht.core.state import NodeSettings
from mediadht.daemon.announcing import Announcer
from mediadht.daemon.config import DaemonConfig
from mediadht.daemon.connections import Credentials
from mediadht.daemon.domains import registrable_domain
from mediadht.daemon.driver import Driver
from mediadht.daemon.face import Announce, Announcement, PeerStatus, Readiness, Status
from mediadht.daemon.identity import load_or_create_key
from mediadht.daemon.lookups import Lookups, RunningLookup
from mediadht.daemon.metrics import DaemonCollector
from mediadht.daemon.peering import Peering, bind
from mediadht.daemon.readiness import Canary
from mediadht.daemon.storage import Kept, Storage

__all__ = ["Daemon", "open_daemon"]

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 2.0
CONTACTS_INTERVAL_S = 30.0
CONTACTS_SAVED_MAX = 1_000
SHUTDOWN_S = 8.0
LEAVE_S = 4.0
GOODBYE_S = 2.0


class Daemon:
    """Implements `face.DHT`. Made by `open_daemon`."""

    def __init__(
        self,
        config: DaemonConfig,
        keys: KeyPair,
        storage: Storage,
        nursery: trio.Nursery,
        *,
        listening: tuple[str, ...],
        tls: tuple[ssl.SSLContext, ssl.SSLContext | None],
    ) -> None:
        self._config = config
        self._storage = storage
        self._listening = listening
        self._started_s = trio.current_time()
        self._instance = os.urandom(8)
        self._contact = Contact(keys.node_id, keys.public_key, config.peer_url, config.server_name)
        settings = NodeSettings(
            network=config.network,
            private_allowed=config.private_allowed,
            sessions_max=config.sessions_max,
            contacts_max=config.contacts_max,
            records_max=config.records_max,
            expects_peers=bool(config.bootstrap),
            claims=False,  # `storage` keeps no promises yet, and one that is not on disk must not be given
        )
        node = Node(
            keys,
            self._contact,
            settings,
            entropy=os.urandom,
            registrable_domain=registrable_domain,
            now=trio.current_time(),
        )
        self._peering = Peering(
            nursery,
            Credentials(keys, self._hello, config.network),
            bootstrap=config.bootstrap,
            private_allowed=config.private_allowed,
            tls_client=tls[0],
            tls_server=tls[1],
            connections_max=config.sessions_max,
        )
        self.driver = Driver(
            node,
            dial=self._peering.dial,
            probe=self._peering.probe,
            bootstrap=self._peering.bootstrap,
            told=self._told,
        )
        self._peering.driver = self.driver
        self._lookups = Lookups(self.driver)
        self._announcer = Announcer(self.driver, storage, config.server_name)
        self._canary = Canary(
            self.driver,
            self._lookups,
            expects_peers=bool(config.bootstrap),
            can_announce=config.server_name is not None,
        )
        self._left = trio.Event()
        self.registry = CollectorRegistry()
        self.registry.register(DaemonCollector(self.driver, self._lookups, self._announcer))

    # --- The face ------------------------------------------------------------------------------------------------

    @property
    def server_name(self) -> str | None:
        return self._config.server_name

    @property
    def node_id(self) -> str:
        """64 hexadecimal digits."""
        return node_id_hex(self._contact.node_id)

    @asynccontextmanager
    async def lookup(
        self, subject: Subject, *, providers_max: int = 16, deadline_s: float = 5.0
    ) -> AsyncIterator[RunningLookup]:
        number, running = await self._lookups.start(subject, providers_max, deadline_s)
        try:
            yield running
        finally:
            await self._lookups.stop(number)

    async def announce(self, wishes: Sequence[Announce]) -> list[Announcement]:
        return await self._announcer.announce(wishes)

    async def withdraw(self, subjects: Sequence[Subject], *, source: str | None = None) -> list[Subject]:
        return await self._announcer.withdraw(subjects, source)

    def announcement(self, subject: Subject) -> Announcement | None:
        return self._announcer.shown(subject)

    def announcements(self) -> list[Announcement]:
        return self._announcer.all_shown()

    async def ready(self) -> Readiness:
        return await self._canary.check()

    async def ping(self, peer: str, *, deadline_s: float = 5.0) -> float:
        return await self._lookups.ping(self._named(peer), deadline_s)

    def status(self) -> Status:
        state = self.driver.node.state
        return Status(
            version=mediadht.__version__,
            node_id=self.node_id,
            server_name=self._config.server_name,
            endpoints=self._config.peer_url,
            listening=self._listening,
            uptime_s=trio.current_time() - self._started_s,
            sessions=len(state.sessions),
            table_contacts=len(state.table),
            known_contacts=len(state.book),
            network_size_estimate=state.network_size(),
            records_held=len(state.store),
            announcements=self._announcer.standing,
            announcements_pending=self._announcer.pending,
            clock_offset_s=self.driver.node.clock_offset_s(),
            warnings=tuple(self._warnings()),
        )

    def peers(self) -> list[PeerStatus]:
        state, now = self.driver.node.state, trio.current_time()
        shown = [p for p in state.book.values() if p.in_table or p.connected]
        shown.sort(key=lambda peer: peer.contact.node_id ^ state.own_id)
        return [
            PeerStatus(
                node_id=node_id_hex(peer.contact.node_id),
                server_name=peer.contact.server_name,
                endpoints=peer.contact.endpoints,
                in_table=peer.in_table,
                session=("outbound" if session.outbound else "inbound") if session is not None else None,
                round_trip_ms=None if peer.round_trip_s is None else 1000 * peer.round_trip_s,
                heard_s_ago=None if peer.answered_s == float("-inf") else now - peer.answered_s,
                failures=peer.failures,
            )
            for peer in shown
            for session in [state.sessions.get(peer.contact.node_id)]
        ]

    # --- Running -------------------------------------------------------------------------------------------------

    async def start(self, nursery: trio.Nursery, listeners: list[trio.SocketListener], kept: Kept) -> None:
        """Take back what was on disk, listen, begin."""
        await self.driver.set_clock()
        self.driver.node.restore(kept.contacts, kept.records)
        if listeners:
            nursery.start_soon(self._peering.serve, listeners)
        nursery.start_soon(self.driver.timer_task)
        nursery.start_soon(self._housekeeping)
        await self.driver.step(Start())
        await self._announcer.restore(kept.announcements)

    async def stop(self) -> None:
        """Hand over, say goodbye, write."""
        with trio.move_on_after(LEAVE_S):
            await self.driver.step(Leave(LEAVE_S))
            await self._left.wait()
        self._save_contacts()
        self.driver.is_stopping = True
        with trio.move_on_after(GOODBYE_S):
            await self._peering.hang_up_all(Code.LEAVING)
        if not await self._storage.flush():
            logger.error("%s", self._storage.trouble)

    def _hello(self) -> Hello:
        return Hello(
            self._contact,
            self._instance,
            int(trio.current_time() - self._started_s),
            int(time.time()),
            f"mediadht/{mediadht.__version__}",
        )

    async def _housekeeping(self) -> None:
        """Write what is lazy, watch the clock, save contacts."""
        contacts_s = 0.0
        while True:
            await trio.sleep(FLUSH_INTERVAL_S)
            await self.driver.set_clock()
            if trio.current_time() - contacts_s >= CONTACTS_INTERVAL_S:
                contacts_s = trio.current_time()
                self._save_contacts()
            was_in_trouble = self._storage.trouble is not None
            if not await self._storage.flush() and not was_in_trouble:
                logger.error("%s; keeping it in memory and trying again", self._storage.trouble)

    def _save_contacts(self) -> None:
        peers = self.driver.node.state.book.pinned_or_recent(CONTACTS_SAVED_MAX)
        if peers:
            self._storage.save_contacts([peer.contact for peer in peers])

    def _told(self, notice: Notice) -> None:
        match notice:
            case ProviderFound() | LookupEnded() | PingEnded():
                self._lookups.told(notice)
            case RecordKept(record):
                self._storage.keep_record(record)
            case RecordDropped(record):
                self._storage.drop_record(record)
            case AnnouncementProgress():
                if not self._canary.told(notice):
                    self._announcer.progress(notice)
            case Left():
                self._left.set()

    def _named(self, peer: str) -> int:
        """The node ID of a known contact, by its ID, server name or endpoint."""
        book = self.driver.node.state.book
        matches = [
            known.contact.node_id
            for known in book.values()
            if peer in (known.contact.server_name, node_id_hex(known.contact.node_id), *known.contact.endpoints)
        ]
        if not matches:
            raise CallerError(
                f"{peer[:100]!r} is no known contact: write a node ID, a server name or an address that "
                "`mediadht peers` shows"
            )
        return matches[0]

    def _warnings(self) -> list[str]:
        state, warnings = self.driver.node.state, list[str]()
        if not self._config.peer_url:
            warnings.append(
                "no --peer-url: other nodes cannot reach this one, so it stores nothing for them; give the wss:// "
                "address at which your reverse proxy leads to --peer-listen"
            )
        if not state.sessions:
            if self._peering.bootstrap_trouble is not None:
                warnings.append(self._peering.bootstrap_trouble)
            elif self._config.bootstrap or len(state.book):
                warnings.append("no peer can be reached; trying again every few seconds")
            else:
                warnings.append("a network of one: give the address of another node with --bootstrap")
        offset_s = self.driver.node.clock_offset_s()
        if offset_s is not None and abs(offset_s) > CLOCK_WARNING_S:
            direction = "behind" if offset_s > 0 else "ahead of"
            warnings.append(
                f"this machine's clock is {abs(offset_s):.0f} s {direction} the median of its peers': "
                "set it by NTP, or records are refused"
            )
        if self._storage.trouble is not None:
            warnings.append(self._storage.trouble)
        warnings += [f"announcements: {text}" for text in self._announcer.troubles()[:3]]
        return warnings


@asynccontextmanager
async def open_daemon(config: DaemonConfig) -> AsyncIterator[Daemon]:
    """Run a daemon while the context lasts.

    Raises EnvironmentFault where the machine refuses (port, file, database) and ConfigurationError where the
    configuration cannot work, before anything is started.
    """
    tls = _tls_client(config), _tls_server(config)
    keys = load_or_create_key(config.data_dir)
    with Storage.open(config.data_dir) as storage:
        kept = storage.load(time.time())
        listeners = await bind(config.peer_listen)
        try:
            async with trio.open_nursery() as nursery:
                daemon = Daemon(config, keys, storage, nursery, listening=_addresses(listeners), tls=tls)
                await daemon.start(nursery, listeners, kept)
                try:
                    yield daemon
                finally:
                    with trio.move_on_after(SHUTDOWN_S, shield=True):
                        await daemon.stop()
                    nursery.cancel_scope.cancel()
        finally:
            for listener in listeners:
                await trio.aclose_forcefully(listener)


def _addresses(listeners: list[trio.SocketListener]) -> tuple[str, ...]:
    names = []
    for listener in listeners:
        host, port = listener.socket.getsockname()[:2]
        names.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return tuple(names)


def _tls_client(config: DaemonConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.tls_ca)
    except (OSError, ssl.SSLError) as fault:
        raise ConfigurationError(f"tls_ca: {config.tls_ca} cannot be used: {fault}. Name a PEM file") from fault


def _tls_server(config: DaemonConfig) -> ssl.SSLContext | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as fault:
        raise EnvironmentFault(
            f"the TLS certificate {config.tls_certificate} or its key {config.tls_key} cannot be used: {fault}"
        ) from fault
    return context

"""The commands that ask the running daemon: `status`, `peers`, `ping`, `lookup`, `announce`, `withdraw`."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Final

import click

from mediadht.cli import show
from mediadht.cli.exit_codes import ExitCode
from mediadht.cli.options import Sources, configured, json_option, own_option
from mediadht.core.errors import CallerError, RemoteError
from mediadht.core.identifiers import Kind

if TYPE_CHECKING:
    from mediadht.cli.client import ApiClient
    from mediadht.cli.subjects import Named

__all__ = ["announce", "lookup", "peers", "ping", "status", "withdraw"]

POLL_INTERVAL_S: Final = 0.1
"""How often `announce --wait` asks how far it has got."""

_PEERS_MAX: Final = 1_000
_NODE_ID_START: Final = re.compile(r"[0-9a-f]{4,63}")

_WHAT_HELP = "WHAT is a media ID, a room ID, or a file, which is hashed (an ID wins over a file; ./NAME is the file)."


def _client(sources: Sources) -> ApiClient:
    from mediadht.cli.client import ApiClient
    from mediadht.cli.config import load_api_config

    return ApiClient(load_api_config(**sources.arguments()))


def _named(what: str) -> Named:
    from mediadht.cli.subjects import name_subject

    return name_subject(what, show.progress)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=True))


@click.command()
@configured("--api-listen")
@own_option("--ready", is_flag=True, help="Ask whether the DHT can be used; exit code 1 if not.")
@own_option("--announcements", "list_announcements", is_flag=True, help="List what this server announces.")
@json_option("the answer as one JSON object (announcements: one a line)")
def status(sources: Sources, *, ready: bool, list_announcements: bool, as_json: bool) -> ExitCode:
    """Show how the running daemon is."""
    with _client(sources) as client:
        if ready:
            return _show_ready(client, as_json=as_json)
        if list_announcements:
            if as_json:
                for one in client.announcements():
                    _print_json(one)
            else:
                show.show_announcements(client.announcements())
            return ExitCode.OK
        answer = client.status()
    if as_json:
        _print_json(answer)
    else:
        show.show_status(answer)
    return ExitCode.OK


def _show_ready(client: ApiClient, *, as_json: bool) -> ExitCode:
    answer = client.ready()
    if as_json:
        _print_json(answer)
    else:
        why = answer.get("why") or answer.get("error", "")
        click.echo(show.clean(f"{'ready' if answer['ready'] else 'not ready'}: {why}"))
    return ExitCode.OK if answer["ready"] else ExitCode.NEGATIVE


@click.command(short_help="Show the nodes that the running daemon knows.")
@configured("--api-listen")
@own_option("--limit", type=click.IntRange(1, _PEERS_MAX), default=100, show_default=True, help="Peers shown.")
@json_option("the answer as one JSON object")
def peers(sources: Sources, *, limit: int, as_json: bool) -> ExitCode:
    """Show the nodes that the running daemon knows, nearest to it in the key space first."""
    with _client(sources) as client:
        answer = client.peers(limit)
    if as_json:
        _print_json(answer)
    else:
        show.show_peers(answer["peers"], answer["total"])
    return ExitCode.OK


@click.command(short_help="Ask a known peer for a sign of life.")
@configured("--api-listen")
@click.argument("peer")
@own_option("--deadline-s", type=click.FloatRange(0.1, 30), default=5.0, show_default=True, help="Seconds to wait.")
@json_option("the answer as one JSON object")
def ping(sources: Sources, *, peer: str, deadline_s: float, as_json: bool) -> ExitCode:
    """Ask PEER for a sign of life: the node ID, or how it begins, the server name or the address of a known peer."""
    with _client(sources) as client:
        answer = client.ping(_whole_node_id(client, peer), deadline_s)
    if as_json:
        _print_json(answer)
    else:
        click.echo(show.clean(f"{peer} answered in {answer['round_trip_ms']:.1f} ms"))
    return ExitCode.OK


def _whole_node_id(client: ApiClient, peer: str) -> str:
    """The node ID that begins as `peer` does, as `mediadht peers` shows it; `peer` itself if that is not so."""
    if not _NODE_ID_START.fullmatch(peer):
        return peer
    ids = [known["node_id"] for known in client.peers(_PEERS_MAX)["peers"] if known["node_id"].startswith(peer)]
    return ids[0] if len(ids) == 1 else peer


@click.command(epilog=_WHAT_HELP)
@configured("--api-listen")
@click.argument("what")
@own_option("--limit", type=click.IntRange(1, 500), default=16, show_default=True, help="Servers to look for.")
@own_option("--deadline-s", type=click.FloatRange(0.1, 30), default=5.0, show_default=True, help="Seconds to look.")
@json_option('one JSON object a line: {"provider": ...} for each server as it is found, {"summary": ...} at the end')
def lookup(sources: Sources, *, what: str, limit: int, deadline_s: float, as_json: bool) -> ExitCode:
    """Find the servers that have WHAT. Exit code 1 if there are none; 6 if the DHT could not be heard."""
    shown, summary = 0, dict[str, Any]()
    with _client(sources) as client:
        named = _named(what)
        if named.path is not None and not as_json:
            click.echo(f"{show.clean(named.path)} is {named.subject}", err=True)
        for line in client.lookup(named.subject, limit=limit, deadline_s=deadline_s):
            shown += "provider" in line
            summary = line.get("summary", summary)
            if as_json:
                _print_json(line)
            elif "provider" in line:
                click.echo(show.provider_line(line["provider"]))
    if not as_json:
        click.echo(show.summary_line(summary, shown))
    if shown:
        return ExitCode.OK
    return ExitCode.NEGATIVE if summary["heard"] else ExitCode.REMOTE


@click.command(epilog=_WHAT_HELP)
@configured("--api-listen")
@click.argument("what")
@own_option("--room", "room_id", metavar="ROOM_ID", help="For media: the room that holds it.")
@own_option(
    "--offer", "offers", type=click.Choice(["bytes", "history"]), multiple=True, help="What is served (repeatable)."
)
@own_option("--wait", is_flag=True, help="Wait until other nodes have stored it.")
@own_option("--deadline-s", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds to wait.")
@json_option("the announcement as one JSON object")
def announce(
    sources: Sources,
    *,
    what: str,
    room_id: str | None,
    offers: tuple[str, ...],
    wait: bool,
    deadline_s: float,
    as_json: bool,
) -> ExitCode:
    """Announce that this homeserver has WHAT, until it is withdrawn.

    It is on disk when the command ends, and reaches the DHT in the background; --wait waits for that.
    Announce --offer history only once the homeserver holds the media room back to its create event.
    """
    with _client(sources) as client:
        named = _named(what)
        if named.subject.kind is Kind.ROOM and (room_id or offers):
            raise CallerError("--room and --offer are for media: a room is announced by its ID alone")
        answer = client.announce(named.subject, room_id=room_id, offers=offers)
        if wait:
            answer = _wait_until_stored(client, named, answer, deadline_s)
    if as_json:
        _print_json(answer)
    else:
        click.echo(show.announcement_line(answer))
    return ExitCode.OK


def _wait_until_stored(client: ApiClient, named: Named, answer: dict[str, Any], deadline_s: float) -> dict[str, Any]:
    """The announcement once replicas hold it. Raises RemoteError if they do not within `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    with show.waiting(show.announcement_line(answer)) as tell:
        while answer["state"] != "stored":
            if time.monotonic() >= end_s:
                why = f" ({answer['trouble']})" if answer["trouble"] else ""
                raise RemoteError(
                    "timed_out",
                    f"no node has stored {named.subject} within {deadline_s:g} s{why}: the announcement stands, and "
                    "the daemon goes on trying; see `mediadht status`",
                )
            time.sleep(POLL_INTERVAL_S)
            answer = client.announcement(named.subject)
            tell(show.announcement_line(answer))
    return answer


@click.command(epilog=_WHAT_HELP)
@configured("--api-listen")
@click.argument("what")
@json_option('{"id": ..., "withdrawn": true or false}')
def withdraw(sources: Sources, *, what: str, as_json: bool) -> ExitCode:
    """End the announcement of WHAT. Exit code 1 if there was none."""
    with _client(sources) as client:
        named = _named(what)
        withdrawn = client.withdraw(named.subject)
    if as_json:
        _print_json({"id": named.subject.id, "withdrawn": withdrawn})
    else:
        how = (
            "withdrawn; the other nodes are being told"
            if withdrawn
            else "was not announced, or is so for another reason"
        )
        click.echo(f"{named.subject}: {how}")
    return ExitCode.OK if withdrawn else ExitCode.NEGATIVE

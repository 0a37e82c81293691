"""`/openapi.json` is true: schemathesis asks everything it describes, and checks every answer against it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
import trio
from fake_dht import NODE_ID, FakeDHT, provider
from hypothesis import given, settings
from hypothesis import strategies as st

from mediadht.core.errors import CallerError
from mediadht.core.identifiers import media, room
from mediadht.daemon.face import PeerStatus
from mediadht_bridge.api import ApiConfig, create_app, examples, serve_api
from mediadht_bridge.api.patterns import MEDIA_ID_PATTERN, ROOM_ID_PATTERN

TOKEN = "a-token-of-some-length"
EXAMPLES_PER_CALL = 60


def served_dht() -> FakeDHT:
    found = [provider("one.example", room_id=examples.ROOM_ID), provider("two.example", alive_s_ago=None)]
    return FakeDHT(
        found={media(examples.MEDIA_ID): found, room(examples.ROOM_ID): found},
        known_peers=[PeerStatus(NODE_ID, None, ("wss://two.example/x",), True, None, None, None, 1)],
        pings={"example.org": 0.01},
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The API on a real socket, in a thread with a trio of its own: schemathesis asks synchronously."""
    started, addresses = threading.Event(), []
    scope = trio.CancelScope()
    tokens = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            async with trio.open_nursery() as nursery:
                config = ApiConfig(listen=("127.0.0.1:0",), token=TOKEN)
                addresses.extend(await nursery.start(serve_api, served_dht(), config))
                started.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(10)
    yield addresses[0]
    tokens[0].run_sync_soon(scope.cancel)
    thread.join(20)
    assert not thread.is_alive()


schema = schemathesis.openapi.from_dict(
    create_app(FakeDHT(), ApiConfig(token=TOKEN)).openapi(),
)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES_PER_CALL,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_answer_is_as_the_document_says(case, address):
    case.call_and_validate(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"})


def accepts(parse, text: str) -> bool:
    try:
        parse(text)
    except CallerError:
        return False
    return True


patterns = settings(max_examples=300, derandomize=True, deadline=None, database=None)


@patterns
@given(st.from_regex(MEDIA_ID_PATTERN, fullmatch=True))
def test_what_the_media_id_pattern_matches_is_accepted(text):
    assert accepts(media, text) == (not text.endswith("\n"))


@patterns
@given(st.from_regex(ROOM_ID_PATTERN, fullmatch=True))
def test_what_the_room_id_pattern_matches_is_accepted(text):
    if len(text.encode(errors="replace")) <= 255 and not text.endswith("\n"):
        assert accepts(room, text)


PIECES = ["!", "#", ":", ".", "-", "[::1]", "[", "]", "a", "B", "_", "0", "65535", "65536", "sha256.", "/", "ü", "\x1f"]
PIECES += [":8448", "one.example", "A" * 43, "f" * 64, "f" * 228]
LIKE_AN_ID = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@patterns
@given(LIKE_AN_ID | LIKE_AN_ID.map("!".__add__) | LIKE_AN_ID.map("!a:".__add__))
def test_patterns_and_parsers_agree(text):
    assert accepts(media, text) == bool(re.fullmatch(MEDIA_ID_PATTERN[1:-1], text))
    if len(text.encode()) <= 255:
        assert accepts(room, text) == bool(re.fullmatch(ROOM_ID_PATTERN[1:-1], text))


def test_the_examples_are_what_the_models_say():
    from mediadht_bridge.api.models import AnnouncementAnswer, MediaAnswer, ViaAnswer

    for model, example in (
        (MediaAnswer, examples.MEDIA),
        (ViaAnswer, examples.VIA),
        (AnnouncementAnswer, examples.ANNOUNCEMENT),
    ):
        assert model.model_validate(example).model_dump(mode="json") == example


def test_what_the_document_says_of_security():
    with_token = create_app(FakeDHT(), ApiConfig(token=TOKEN)).openapi()
    assert with_token["security"] == [{"bearer": []}]
    assert with_token["paths"]["/health/live"]["get"]["security"] == []
    assert create_app(FakeDHT(), ApiConfig()).openapi()["security"] == [{}, {"bearer": []}]


def test_every_call_documents_its_errors_in_matrix_form():
    document = create_app(FakeDHT(), ApiConfig()).openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == 15
    for operation in operations:
        assert operation["summary"]
        for status, response in operation["responses"].items():
            assert status != "422"
            if int(status) >= 400:
                reference = response["content"]["application/json"]["schema"]["$ref"]
                assert reference.rpartition("/")[2] in {"ErrorAnswer", "NotReadyAnswer"}


def test_the_public_names():
    import mediadht_bridge.api

    assert mediadht_bridge.api.__all__ == ["ApiConfig", "create_app", "serve_api"]

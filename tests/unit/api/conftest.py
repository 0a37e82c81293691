"""A client that asks the API in this process, and the API on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
import trio
from fake_dht import FakeDHT

from mediadht_bridge.api import ApiConfig, create_app, serve_api

TOKEN = "a-token-of-some-length"


def asgi_client(dht: FakeDHT, config: ApiConfig | None = None, **headers: str) -> httpx.AsyncClient:
    app = create_app(dht, config or ApiConfig())
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://localhost", headers=headers, timeout=None
    )


@asynccontextmanager
async def serving(dht: FakeDHT, config: ApiConfig | None = None) -> AsyncIterator[tuple[str, ...]]:
    """The API on real sockets; the addresses."""
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(serve_api, dht, config or ApiConfig(listen=("127.0.0.1:0",)))
        yield addresses
        nursery.cancel_scope.cancel()


@pytest.fixture
def dht() -> FakeDHT:
    return FakeDHT()


@pytest.fixture
async def client(dht: FakeDHT) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi_client(dht) as client:
        yield client


@pytest.fixture
def make_client() -> Callable[..., httpx.AsyncClient]:
    return asgi_client


@pytest.fixture
def served() -> Callable[..., AbstractAsyncContextManager[tuple[str, ...]]]:
    return serving

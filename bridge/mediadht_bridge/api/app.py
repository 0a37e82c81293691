"""The ASGI application: routes, errors and boundary put together around one daemon.

Always holds: every call is `async def`, so that all of it runs in trio's own thread; the application holds no state
besides the daemon's face, its configuration and its metrics.
"""

from __future__ import annotations

from fastapi import Depends, FastAPI

from mediadht.daemon.face import DHT
from mediadht_bridge.api import routes_media, routes_node, routes_rooms
from mediadht_bridge.api.boundary import Boundary
from mediadht_bridge.api.config import ApiConfig
from mediadht_bridge.api.document import install_document
from mediadht_bridge.api.faults import install_handlers
from mediadht_bridge.api.gate import Gate
from mediadht_bridge.api.metrics import ApiMetrics
from mediadht_bridge.api.params import Context, check_query_names

__all__ = ["create_app"]

_ROUTERS = (routes_media.router, routes_rooms.router, routes_node.router)


def create_app(dht: DHT, config: ApiConfig) -> FastAPI:
    """The application that answers for `dht`; run it under trio.

    Its metrics stand in `dht.registry` until `app.state.metrics.close()`. Raises ConfigurationError if the token
    file is not right.
    """
    token = config.read_token()
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, dependencies=[Depends(check_query_names)])
    for router in _ROUTERS:
        app.include_router(router)
    app.state.context = Context(dht, config)
    app.state.metrics = ApiMetrics(dht.registry)
    app.state.routes = [route for router in _ROUTERS for route in router.routes]
    install_document(app, token_needed=token is not None)
    install_handlers(app)
    app.add_middleware(Boundary, gate=Gate(token), metrics=app.state.metrics, requests_max=config.requests_max)
    return app

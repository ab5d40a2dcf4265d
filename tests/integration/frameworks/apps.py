"""One hub with a sync and one with an async authenticator, in each framework, behind its session in a cookie.

``app`` is the one of the framework that the environment names (``FRAMEWORK``). ``python -m`` this module with
PORT and PREFIX serves it with uvicorn and our classes.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from heartwire import Hub, Unauthorized

PREFIXES = ("/sync", "/async")

blocking, waiting = hubs = Hub(), Hub()
mounts = [Mount(prefix, hub.asgi()) for prefix, hub in zip(PREFIXES, hubs, strict=True)]


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    async with blocking.lifespan(), waiting.lifespan():
        yield


# -- Starlette and FastAPI -----------------------------------------------------------------------------------


def use_starlette_sessions() -> None:
    @blocking.authenticate
    def who(request: HTTPConnection) -> str:
        return known(request.session.get("user"))

    @waiting.authenticate
    async def who_is_it(request: HTTPConnection) -> str:
        return known(request.session.get("user"))


def known(user: Any) -> str:
    if user is None:
        raise Unauthorized("log in first")
    return str(user)


async def log_in(request: Request) -> Response:
    request.session["user"] = "ann"
    return PlainTextResponse("hello")


def starlette() -> Starlette:
    use_starlette_sessions()
    sessions = Middleware(SessionMiddleware, secret_key="not one")
    return Starlette(routes=[*mounts, Route("/login", log_in)], middleware=[sessions], lifespan=lifespan)


def fastapi() -> FastAPI:
    use_starlette_sessions()
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(SessionMiddleware, secret_key="not one")
    app.add_api_route("/login", log_in, response_model=None)
    app.routes.extend(mounts)
    return app


# -- Django --------------------------------------------------------------------------------------------------


def django_log_in(request: HttpRequest) -> HttpResponse:
    request.session["user"] = "ann"
    return HttpResponse("hello")


urlpatterns = [path("login", django_log_in)]


def in_django() -> Starlette:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="not one",
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    )
    django.setup()
    store = import_module(settings.SESSION_ENGINE).SessionStore

    @blocking.authenticate
    def who(request: HTTPConnection) -> str:
        return known(store(request.cookies.get(settings.SESSION_COOKIE_NAME)).get("user"))

    @waiting.authenticate
    async def who_is_it(request: HTTPConnection) -> str:
        return known(await store(request.cookies.get(settings.SESSION_COOKIE_NAME)).aget("user"))

    return Starlette(routes=[*mounts, Mount("/", get_asgi_application())], lifespan=lifespan)


MADE = {"starlette": starlette, "fastapi": fastapi, "django": in_django}


app = MADE[os.environ["FRAMEWORK"]]()

if __name__ == "__main__":
    port, prefix = sys.argv[1:]
    uvicorn.run(
        app,
        port=int(port),
        http="heartwire.transports.http.request:HeartwireHttpProtocol",
        ws=hubs[PREFIXES.index(prefix)].websocket_class(prefix),
        lifespan="on",
        log_level="warning",
    )

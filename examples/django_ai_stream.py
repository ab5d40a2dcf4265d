"""Answers that outlive their request, in a Django project, in one file. In a real project this is your `asgi.py`
and your views; settings and URLs stay unchanged.

pip install heartwire django
uvicorn django_ai_stream:app

curl -N -X POST 'localhost:8000/answers/42/?question=Why'     # break it off with Ctrl-C
curl -N localhost:8000/answers/42/                            # it is all there, and goes on
curl -X POST localhost:8000/answers/42/stop/
"""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from starlette.applications import Starlette
from starlette.routing import Mount

from heartwire import Hub, Refused

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="not one")
    django.setup()

hub = Hub()  # Hub("sqlite:///answers.db") keeps the answers across restarts
hub.namespace("answer", durable=True, ttl="1h")


def generate(question: str) -> Iterator[str]:
    """A model, or an ORM query, that blocks: it runs in a thread."""
    for word in f"You asked: {question}. It does not matter who listens.".split():
        yield word + " "
        time.sleep(0.2)


@csrf_exempt
async def answer(request: HttpRequest, id: int) -> HttpResponse | StreamingHttpResponse:
    """POST begins the answer, once; GET reads it. A real view asks who the user is."""
    name = f"answer:{id}"
    if request.method == "POST":
        await hub.start_stream(name, generate(request.GET.get("question", "")))
    pieces = hub.stream_pieces(name)
    try:
        first = await anext(pieces, b"")  # before the head, so that there may be another one
    except Refused as refusal:
        return HttpResponse(refusal.message, status=refusal.code.http_status)

    async def body() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(pieces):  # also where the reader leaves
            yield first
            async for piece in pieces:
                yield piece

    return StreamingHttpResponse(body(), content_type="text/plain; charset=utf-8")


@csrf_exempt
async def stop(request: HttpRequest, id: int) -> JsonResponse:
    """Stop it. Who only leaves, stops nothing."""
    return JsonResponse({"stopped": await hub.cancel_stream(f"answer:{id}")})


urlpatterns = [path("answers/<int:id>/", answer), path("answers/<int:id>/stop/", stop)]

# The hub starts and stops with the server, which Django knows nothing of.
app = Starlette(routes=[Mount("/", get_asgi_application())], lifespan=hub.lifespan)

"""A chat beside a Django project, in one file. In a real project this is your `asgi.py`; settings, URLs and
views stay unchanged.

pip install heartwire django
uvicorn django_chat:app

curl -N -H 'Accept: text/event-stream' localhost:8000/realtime/channels/chat
curl -d text=hello localhost:8000/announce/
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from starlette.applications import Starlette
from starlette.routing import Mount

from heartwire import Hub

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="not one")
    django.setup()

hub = Hub()  # Hub("sqlite:///chat.db") keeps the messages across restarts


@csrf_exempt
async def announce(request: HttpRequest) -> JsonResponse:
    """An asynchronous view runs on the hub's event loop; a synchronous one uses
    `asgiref.sync.async_to_sync`."""
    position = await hub.publish("chat", request.POST["text"])
    return JsonResponse({"position": str(position)})


urlpatterns = [path("announce/", announce)]

# The hub serves everything below /realtime, WebSockets too; Django serves the rest.
app = Starlette(
    routes=[Mount("/realtime", hub.asgi()), Mount("/", get_asgi_application())], lifespan=hub.lifespan
)

"""A Django service whose requests are runs: `uvicorn django_service:app`, then `curl localhost:8000/ask/tea`."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from nat_observability import step
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations.django import instrument

os.environ.setdefault("NAT_OBSERVABILITY_EXPORTERS__TERMINAL__TYPE", "console")


def ask(request: HttpRequest, topic: str) -> HttpResponse:
    """Search for an answer."""
    with step("tool", "search", input=topic) as search:
        answer = search.output = f"green {topic}"
    return HttpResponse(answer.encode())


urlpatterns = [path("ask/<topic>", ask)]

settings.configure(SECRET_KEY="for this example only", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
app = instrument(get_asgi_application(), ObservabilityContainer(), health="/health")

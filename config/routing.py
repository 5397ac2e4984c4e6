"""Websocket routes of all apps; a path that none knows is closed with 4404."""

from channels.routing import URLRouter
from django.urls import re_path

from config.consumers import NotFoundConsumer
from labeling.routing import websocket_urlpatterns as labeling_routes
from training.routing import websocket_urlpatterns as training_routes

websocket_urlpatterns = [*labeling_routes, *training_routes, re_path(r"", NotFoundConsumer.as_asgi())]
router = URLRouter(websocket_urlpatterns)

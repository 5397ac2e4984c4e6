from django.urls import path

from labeling.consumers import CampaignConsumer, ChatConsumer

websocket_urlpatterns = [
    path("ws/campaigns/<str:campaign_id>/", CampaignConsumer.as_asgi()),
    path("ws/campaigns/<str:campaign_id>/chat/", ChatConsumer.as_asgi()),
]

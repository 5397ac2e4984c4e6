from django.urls import path

from labeling.consumers import CampaignConsumer

websocket_urlpatterns = [path("ws/campaigns/<str:campaign_id>/", CampaignConsumer.as_asgi())]

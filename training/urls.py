from django.urls import path

from training import views, views_chat

urlpatterns = [
    path("runs/", views.run_list, name="run_list"),
    path("runs/live", views.run_list_live, name="run_list_live"),
    path("runs/new", views.run_new, name="run_new"),
    path("runs/<str:run_id>/", views.run_detail, name="run_detail"),
    path("runs/<str:run_id>/head", views.run_head, name="run_head"),
    path("runs/<str:run_id>/samples", views.run_samples, name="run_samples"),
    path("runs/<str:run_id>/series", views.run_series, name="run_series"),
    path("runs/<str:run_id>/live", views.run_live, name="run_live"),
    path("runs/<str:run_id>/stop", views.run_stop, name="run_stop"),
    path("runs/<str:run_id>/resume", views.run_resume, name="run_resume"),
    path("runs/<str:run_id>/campaign", views.run_campaign, name="run_campaign"),
    path("models/", views.model_list, name="model_list"),
    path("models/<str:model_id>/", views.model_detail, name="model_detail"),
    path("campaigns/<str:campaign_id>/live-chat", views_chat.live_chat, name="campaign_live_chat"),
    path("campaigns/<str:campaign_id>/live-chat/standing", views_chat.live_chat_standing, name="live_chat_standing"),
]

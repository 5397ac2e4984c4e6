from django.urls import path

from training import api, api_chats

urlpatterns = [
    path("runs/", api.Runs.as_view(), name="api_runs"),
    path("runs/<str:run_id>", api.Run.as_view(), name="api_run"),
    path("runs/<str:run_id>/events", api.RunEvents.as_view(), name="api_run_events"),
    path("runs/<str:run_id>/series", api.RunSeries.as_view(), name="api_run_series"),
    path("runs/<str:run_id>/stop", api.RunStop.as_view(), name="api_run_stop"),
    path("runs/<str:run_id>/resume", api.RunResume.as_view(), name="api_run_resume"),
    path("runs/<str:run_id>/campaign", api.RunCampaign.as_view(), name="api_run_campaign"),
    path("campaigns/<str:campaign_id>/live-chat", api_chats.CampaignLiveChat.as_view(), name="api_live_chat"),
    path("artifacts/", api.Artifacts.as_view(), name="api_artifacts"),
    path("artifacts/<str:model_id>", api.Artifact.as_view(), name="api_artifact"),
    path("artifacts/<str:model_id>/evaluation", api.ArtifactEvaluation.as_view(), name="api_artifact_evaluation"),
    path("artifacts/<str:model_id>/lineage", api.ArtifactLineage.as_view(), name="api_artifact_lineage"),
]

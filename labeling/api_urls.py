from django.urls import path

from labeling import api

urlpatterns = [
    path("campaigns/", api.CampaignList.as_view(), name="api_campaigns"),
    path("campaigns/<str:campaign_id>", api.CampaignDetail.as_view(), name="api_campaign"),
    path("campaigns/<str:campaign_id>/state", api.CampaignState.as_view(), name="api_campaign_state"),
    path("campaigns/<str:campaign_id>/members", api.CampaignMembers.as_view(), name="api_campaign_members"),
    path("campaigns/<str:campaign_id>/imports", api.CampaignImports.as_view(), name="api_campaign_imports"),
    path(
        "campaigns/<str:campaign_id>/imports/<int:import_id>", api.CampaignImport.as_view(), name="api_campaign_import"
    ),
    path("campaigns/<str:campaign_id>/next", api.CampaignNext.as_view(), name="api_campaign_next"),
    path("campaigns/<str:campaign_id>/undo", api.CampaignUndo.as_view(), name="api_campaign_undo"),
    path("campaigns/<str:campaign_id>/export", api.CampaignExport.as_view(), name="api_campaign_export"),
    path("campaigns/<str:campaign_id>/report", api.CampaignReport.as_view(), name="api_campaign_report"),
    path("leases/<uuid:lease>/submit", api.LeaseSubmit.as_view(), name="api_lease_submit"),
    path("leases/<uuid:lease>/heartbeat", api.LeaseHeartbeat.as_view(), name="api_lease_heartbeat"),
    path("leases/<uuid:lease>/release", api.LeaseRelease.as_view(), name="api_lease_release"),
    path("leases/<uuid:lease>/skip", api.LeaseSkip.as_view(), name="api_lease_skip"),
]

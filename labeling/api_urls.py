from django.urls import path

from labeling import api, api_chats, api_items, api_quality, api_tasks, api_webhooks

urlpatterns = [
    path("campaigns/", api.CampaignList.as_view(), name="api_campaigns"),
    path("campaigns/<str:campaign_id>", api.CampaignDetail.as_view(), name="api_campaign"),
    path("campaigns/<str:campaign_id>/restore", api.CampaignRestored.as_view(), name="api_campaign_restore"),
    path("campaigns/<str:campaign_id>/state", api.CampaignState.as_view(), name="api_campaign_state"),
    path("campaigns/<str:campaign_id>/members", api.CampaignMembers.as_view(), name="api_campaign_members"),
    path("campaigns/<str:campaign_id>/members/<int:user_id>", api.CampaignMember.as_view(), name="api_campaign_member"),
    path("campaigns/<str:campaign_id>/report", api.CampaignReport.as_view(), name="api_campaign_report"),
    path("campaigns/<str:campaign_id>/imports", api_items.CampaignImports.as_view(), name="api_campaign_imports"),
    path(
        "campaigns/<str:campaign_id>/imports/dataset",
        api_items.CampaignImportDataset.as_view(),
        name="api_campaign_import_dataset",
    ),
    path(
        "campaigns/<str:campaign_id>/imports/preview",
        api_items.CampaignImportPreview.as_view(),
        name="api_campaign_import_preview",
    ),
    path(
        "campaigns/<str:campaign_id>/imports/<int:import_id>",
        api_items.CampaignImport.as_view(),
        name="api_campaign_import",
    ),
    path(
        "campaigns/<str:campaign_id>/imports/<int:import_id>/refused",
        api_items.CampaignImportRefused.as_view(),
        name="api_campaign_import_refused",
    ),
    path("campaigns/<str:campaign_id>/items", api_items.CampaignItems.as_view(), name="api_campaign_items"),
    path("campaigns/<str:campaign_id>/items/<str:item_id>", api_items.CampaignItem.as_view(), name="api_campaign_item"),
    path("campaigns/<str:campaign_id>/export", api_items.CampaignExport.as_view(), name="api_campaign_export"),
    path("campaigns/<str:campaign_id>/rules", api_quality.CampaignRules.as_view(), name="api_campaign_rules"),
    path("campaigns/<str:campaign_id>/people", api_quality.CampaignPeople.as_view(), name="api_campaign_people"),
    path(
        "campaigns/<str:campaign_id>/people/<int:user_id>/pause",
        api_quality.CampaignPause.as_view(),
        name="api_campaign_pause",
    ),
    path("campaigns/<str:campaign_id>/gold", api_quality.CampaignGolds.as_view(), name="api_campaign_golds"),
    path("campaigns/<str:campaign_id>/items/<str:item_id>/gold", api_quality.ItemGold.as_view(), name="api_item_gold"),
    path(
        "campaigns/<str:campaign_id>/items/<str:item_id>/release",
        api_quality.ItemRelease.as_view(),
        name="api_item_release",
    ),
    path("campaigns/<str:campaign_id>/review", api_quality.CampaignReview.as_view(), name="api_campaign_review"),
    path(
        "campaigns/<str:campaign_id>/review/<str:ranking_id>",
        api_quality.RankingReview.as_view(),
        name="api_ranking_review",
    ),
    path("campaigns/<str:campaign_id>/leaks", api_quality.CampaignLeaks.as_view(), name="api_campaign_leaks"),
    path("campaigns/<str:campaign_id>/health", api_quality.CampaignHealth.as_view(), name="api_campaign_health"),
    path("campaigns/<str:campaign_id>/log", api_quality.CampaignLog.as_view(), name="api_campaign_log"),
    path("log/", api_quality.SiteLog.as_view(), name="api_log"),
    path("campaigns/<str:campaign_id>/webhooks", api_webhooks.CampaignWebhooks.as_view(), name="api_campaign_webhooks"),
    path("webhooks/", api_webhooks.SiteWebhooks.as_view(), name="api_webhooks"),
    path("webhooks/<str:webhook_id>", api_webhooks.WebhookDetail.as_view(), name="api_webhook"),
    path("webhooks/<str:webhook_id>/secret", api_webhooks.WebhookSecret.as_view(), name="api_webhook_secret"),
    path("webhooks/<str:webhook_id>/test", api_webhooks.WebhookTest.as_view(), name="api_webhook_test"),
    path(
        "webhooks/<str:webhook_id>/deliveries", api_webhooks.WebhookDeliveries.as_view(), name="api_webhook_deliveries"
    ),
    path(
        "webhooks/<str:webhook_id>/deliveries/<str:delivery_id>/again",
        api_webhooks.DeliveryAgain.as_view(),
        name="api_webhook_again",
    ),
    path("campaigns/<str:campaign_id>/next", api_tasks.CampaignNext.as_view(), name="api_campaign_next"),
    path("campaigns/<str:campaign_id>/undo", api_tasks.CampaignUndo.as_view(), name="api_campaign_undo"),
    path("campaigns/<str:campaign_id>/chat", api_chats.CampaignChat.as_view(), name="api_campaign_chat"),
    path("campaigns/<str:campaign_id>/chat/say", api_chats.CampaignChatSay.as_view(), name="api_campaign_chat_say"),
    path("campaigns/<str:campaign_id>/chat/again", api_chats.CampaignChatAgain.as_view(), name="api_chat_again"),
    path("campaigns/<str:campaign_id>/chat/vote", api_chats.CampaignChatVote.as_view(), name="api_chat_vote"),
    path("leases/<uuid:lease>/submit", api_tasks.LeaseSubmit.as_view(), name="api_lease_submit"),
    path("leases/<uuid:lease>/heartbeat", api_tasks.LeaseHeartbeat.as_view(), name="api_lease_heartbeat"),
    path("leases/<uuid:lease>/release", api_tasks.LeaseRelease.as_view(), name="api_lease_release"),
    path("leases/<uuid:lease>/skip", api_tasks.LeaseSkip.as_view(), name="api_lease_skip"),
]

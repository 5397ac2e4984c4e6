from django.urls import include, path

from labeling import views_campaigns, views_chat, views_form, views_items, views_label, views_webhooks

urlpatterns = [
    path("", include("labeling.urls_quality")),
    path("campaigns/", views_campaigns.campaign_list, name="campaign_list"),
    path("campaigns/new", views_campaigns.campaign_new, name="campaign_new"),
    path("campaigns/guidelines-preview", views_campaigns.guidelines_preview, name="campaign_guidelines_preview"),
    path("campaigns/<str:campaign_id>/", views_campaigns.campaign_detail, name="campaign_detail"),
    path("campaigns/<str:campaign_id>/live", views_campaigns.campaign_live, name="campaign_live"),
    path("campaigns/<str:campaign_id>/report", views_campaigns.campaign_report, name="campaign_report"),
    path("campaigns/<str:campaign_id>/settings", views_campaigns.campaign_settings, name="campaign_settings"),
    path("campaigns/<str:campaign_id>/questions", views_form.campaign_form, name="campaign_form"),
    path("campaigns/<str:campaign_id>/state", views_campaigns.campaign_state, name="campaign_state"),
    path("campaigns/<str:campaign_id>/delete", views_campaigns.campaign_delete, name="campaign_delete"),
    path("campaigns/<str:campaign_id>/restore", views_campaigns.campaign_restore, name="campaign_restore"),
    path("campaigns/<str:campaign_id>/members", views_campaigns.campaign_members, name="campaign_members"),
    path(
        "campaigns/<str:campaign_id>/members/<int:user_id>/role",
        views_campaigns.member_role,
        name="campaign_member_role",
    ),
    path(
        "campaigns/<str:campaign_id>/members/<int:user_id>/remove",
        views_campaigns.member_remove,
        name="campaign_member_remove",
    ),
    path("campaigns/<str:campaign_id>/import", views_items.campaign_import, name="campaign_import"),
    path(
        "campaigns/<str:campaign_id>/imports/<int:import_id>/", views_items.import_report, name="campaign_import_report"
    ),
    path("campaigns/<str:campaign_id>/items/", views_items.campaign_items, name="campaign_items"),
    path("campaigns/<str:campaign_id>/items/<str:item_id>/", views_items.campaign_item, name="campaign_item"),
    path("campaigns/<str:campaign_id>/label/", views_label.label, name="label"),
    path("campaigns/<str:campaign_id>/label/next", views_label.label_next, name="label_next"),
    path("campaigns/<str:campaign_id>/label/undo", views_label.label_undo, name="label_undo"),
    path("campaigns/<str:campaign_id>/label/<uuid:lease_id>/submit", views_label.label_submit, name="label_submit"),
    path("campaigns/<str:campaign_id>/label/<uuid:lease_id>/skip", views_label.label_skip, name="label_skip"),
    path("campaigns/<str:campaign_id>/label/<uuid:lease_id>/ahead", views_label.label_ahead, name="label_ahead"),
    path(
        "campaigns/<str:campaign_id>/label/<uuid:lease_id>/heartbeat",
        views_label.label_heartbeat,
        name="label_heartbeat",
    ),
    path("campaigns/<str:campaign_id>/label/<uuid:lease_id>/release", views_label.label_release, name="label_release"),
    path("campaigns/<str:campaign_id>/chat/", views_chat.chat, name="chat"),
    path("campaigns/<str:campaign_id>/chat/live", views_chat.chat_live, name="chat_live"),
    path("campaigns/<str:campaign_id>/chat/begin", views_chat.chat_begin, name="chat_begin"),
    path("campaigns/<str:campaign_id>/chat/say", views_chat.chat_say, name="chat_say"),
    path("campaigns/<str:campaign_id>/chat/again", views_chat.chat_again, name="chat_again"),
    path("campaigns/<str:campaign_id>/chat/vote", views_chat.chat_vote, name="chat_vote"),
    path("campaigns/<str:campaign_id>/chat/end", views_chat.chat_end, name="chat_end"),
    path("campaigns/<str:campaign_id>/webhooks/", views_webhooks.campaign_webhooks, name="campaign_webhooks"),
    path("webhooks/", views_webhooks.site_webhooks, name="webhooks"),
    path("webhooks/<str:webhook_id>/", views_webhooks.webhook_detail, name="webhook"),
    path("webhooks/<str:webhook_id>/change", views_webhooks.webhook_change, name="webhook_change"),
    path(
        "webhooks/<str:webhook_id>/deliveries/<str:delivery_id>/again",
        views_webhooks.delivery_again,
        name="webhook_delivery_again",
    ),
]

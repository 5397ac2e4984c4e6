"""Pages about the quality of answers and about the work as a whole."""

from django.urls import path

from labeling import views_oversight, views_quality, views_review

urlpatterns = [
    path("campaigns/<str:campaign_id>/quality/", views_quality.campaign_quality, name="campaign_quality"),
    path("campaigns/<str:campaign_id>/quality/rules", views_quality.campaign_rules, name="campaign_rules"),
    path("campaigns/<str:campaign_id>/quality/gold", views_quality.campaign_gold, name="campaign_gold"),
    path("campaigns/<str:campaign_id>/quality/<int:user_id>/", views_quality.campaign_person, name="campaign_person"),
    path(
        "campaigns/<str:campaign_id>/quality/<int:user_id>/pause",
        views_quality.person_pause,
        name="campaign_person_pause",
    ),
    path(
        "campaigns/<str:campaign_id>/quality/<int:user_id>/resume",
        views_quality.person_resume,
        name="campaign_person_resume",
    ),
    path("campaigns/<str:campaign_id>/items/<str:item_id>/gold", views_quality.item_gold, name="campaign_item_gold"),
    path("campaigns/<str:campaign_id>/review/", views_review.campaign_review, name="campaign_review"),
    path(
        "campaigns/<str:campaign_id>/review/<str:ranking_id>",
        views_review.review_verdict,
        name="campaign_review_verdict",
    ),
    path("campaigns/<str:campaign_id>/leaks/", views_oversight.campaign_leaks, name="campaign_leaks"),
    path("campaigns/<str:campaign_id>/leaks/scan", views_oversight.leaks_scan, name="campaign_leaks_scan"),
    path(
        "campaigns/<str:campaign_id>/leaks/<str:item_id>/release",
        views_oversight.leak_release,
        name="campaign_leak_release",
    ),
    path("campaigns/<str:campaign_id>/health", views_oversight.campaign_health, name="campaign_health"),
    path("campaigns/<str:campaign_id>/pay.csv", views_oversight.campaign_pay, name="campaign_pay"),
    path("campaigns/<str:campaign_id>/log", views_oversight.campaign_log, name="campaign_log"),
    path("log/", views_oversight.site_log, name="site_log"),
]

"""Pages about the quality of answers and about the work as a whole."""

from django.urls import path

from labeling.pages import oversight, quality, review

urlpatterns = [
    path("campaigns/<str:campaign_id>/quality/", quality.campaign_quality, name="campaign_quality"),
    path("campaigns/<str:campaign_id>/quality/rules", quality.campaign_rules, name="campaign_rules"),
    path("campaigns/<str:campaign_id>/quality/gold", quality.campaign_gold, name="campaign_gold"),
    path("campaigns/<str:campaign_id>/quality/<int:user_id>/", quality.campaign_person, name="campaign_person"),
    path(
        "campaigns/<str:campaign_id>/quality/<int:user_id>/pause",
        quality.person_pause,
        name="campaign_person_pause",
    ),
    path(
        "campaigns/<str:campaign_id>/quality/<int:user_id>/resume",
        quality.person_resume,
        name="campaign_person_resume",
    ),
    path("campaigns/<str:campaign_id>/items/<str:item_id>/gold", quality.item_gold, name="campaign_item_gold"),
    path("campaigns/<str:campaign_id>/review/", review.campaign_review, name="campaign_review"),
    path(
        "campaigns/<str:campaign_id>/review/<str:ranking_id>",
        review.review_verdict,
        name="campaign_review_verdict",
    ),
    path("campaigns/<str:campaign_id>/leaks/", oversight.campaign_leaks, name="campaign_leaks"),
    path("campaigns/<str:campaign_id>/leaks/scan", oversight.leaks_scan, name="campaign_leaks_scan"),
    path(
        "campaigns/<str:campaign_id>/leaks/<str:item_id>/release",
        oversight.leak_release,
        name="campaign_leak_release",
    ),
    path("campaigns/<str:campaign_id>/health", oversight.campaign_health, name="campaign_health"),
    path("campaigns/<str:campaign_id>/pay.csv", oversight.campaign_pay, name="campaign_pay"),
    path("campaigns/<str:campaign_id>/log", oversight.campaign_log, name="campaign_log"),
    path("log/", oversight.site_log, name="site_log"),
]

from django.contrib import admin
from django.urls import include, path
from django.views.decorators.cache import cache_control
from django.views.i18n import JavaScriptCatalog
from drf_spectacular.views import SpectacularAPIView

from accounts.access import public
from config import views

urlpatterns = [
    path("", include("labeling.pages.urls")),  # with the api's, first: Django tries one after another, for each request
    path("api/", include("labeling.api.urls")),
    path("", views.home, name="home"),
    path("texts.js", public(cache_control(max_age=3600)(JavaScriptCatalog.as_view())), name="javascript_catalog"),
    path("healthz", views.healthz, name="healthz"),
    path("", include("accounts.urls")),
    path("", include("training.urls")),
    path("api/", include("accounts.api_urls")),
    path("api/", include("training.api_urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("accounts/", include("accounts.sign_in_urls")),
    path("admin/", admin.site.urls),
]
handler404 = "config.views.not_found"

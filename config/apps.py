from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class PrefloopSite(AppConfig):
    """For its commands: backup, restore, doctor."""

    name = "config"


class PrefloopAdmin(AdminConfig):
    default_site = "config.admin.Site"

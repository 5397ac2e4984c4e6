from django.contrib.admin.apps import AdminConfig


class PrefloopAdmin(AdminConfig):
    default_site = "config.admin.Site"

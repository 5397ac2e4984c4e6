"""The maintenance site at /admin/, for site admins. People are edited here; links and tokens can only be looked at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from accounts.models import ApiToken, Invitation, User


class ReadOnlyAdmin(admin.ModelAdmin):
    """Look, do not touch: for rows whose rules live in code, and for what is append-only."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class PersonAdmin(UserAdmin):
    list_display = ("username", "email", "role", "is_active", "last_login")
    list_filter = ("role", "is_active")
    # Role and activity change on the people page, which keeps one admin; deleting would take labels along.
    readonly_fields = ("role", "is_active", "last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "email", "first_name", "last_name")}),
        ("Site", {"fields": ("role", "is_active", "last_login", "date_joined")}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ("email", "role", "campaign", "campaign_role", "created_by", "expires_at", "accepted_by")
    exclude = ("digest",)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ("name", "user", "hint", "created_at", "expires_at", "last_used_at", "revoked_at")
    exclude = ("digest",)

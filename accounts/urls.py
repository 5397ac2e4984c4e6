from django.urls import path

from accounts import views

urlpatterns = [
    path("people/", views.people_list, name="people"),
    path("people/invite", views.invitation_create, name="invitation_create"),
    path("people/<int:user_id>/role", views.person_role, name="person_role"),
    path("people/<int:user_id>/active", views.person_active, name="person_active"),
    path("people/<int:user_id>/erase", views.person_erase, name="person_erase"),
    path("invitations/<int:invitation_id>/revoke", views.invitation_revoke, name="invitation_revoke"),
    path("invite/<str:token>/", views.invitation_accept, name="invitation_accept"),
    path("profile/", views.profile, name="profile"),
    path("profile/data", views.profile_data, name="profile_data"),
    path("profile/preferences", views.preferences_save, name="preferences_save"),
    path("profile/tokens", views.token_create, name="token_create"),
    path("profile/tokens/<int:token_id>/revoke", views.token_revoke, name="token_revoke"),
]

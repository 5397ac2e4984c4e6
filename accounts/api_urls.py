from django.urls import path

from accounts import api

urlpatterns = [
    path("me", api.Me.as_view(), name="api_me"),
    path("me/data", api.MyData.as_view(), name="api_me_data"),
    path("me/tokens", api.Tokens.as_view(), name="api_tokens"),
    path("me/tokens/<int:token_id>", api.Token.as_view(), name="api_token"),
    path("people/", api.People.as_view(), name="api_people"),
    path("people/<int:user_id>", api.Person.as_view(), name="api_person"),
    path("invitations/", api.Invitations.as_view(), name="api_invitations"),
    path("invitations/<int:invitation_id>", api.InvitationDetail.as_view(), name="api_invitation"),
    path("campaigns/<str:campaign_id>/invitations", api.CampaignInvitations.as_view(), name="api_campaign_invitations"),
]

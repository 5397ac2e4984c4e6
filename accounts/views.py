"""Pages about people: who is here, invitations, one's own profile and API tokens."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import invitations, people, privacy, tokens
from accounts.access import AuthenticatedRequest, public, signed_in, site_admin
from accounts.forms import AcceptForm, InviteForm, RoleForm, TokenForm
from accounts.models import ApiToken, Invitation, SiteRole, User
from accounts.preferences import InvalidPreference, preferences_of, set_preferences
from config.paging import page_of, wanted

NEWEST_MEMBERSHIPS = 20  # on the profile; the list of campaigns has all


@site_admin
@require_safe
def people_list(request: AuthenticatedRequest) -> HttpResponse:
    """Everybody with an account, and the open invitations."""
    return _people_page(request, InviteForm())


@site_admin
@require_POST
@never_cache
def invitation_create(request: AuthenticatedRequest) -> HttpResponse:
    form = InviteForm(request.POST)
    if not form.is_valid():
        return _people_page(request, form, status=422)
    _invitation, token = invitations.create_invitation(request.user, **form.cleaned_data)
    # Rendered rather than redirected to: the link is nowhere stored, so it can be shown now or never.
    return _people_page(request, InviteForm(), link=_link(request, token))


def _people_page(request: AuthenticatedRequest, form: InviteForm, *, link: str = "", status: int = 200) -> HttpResponse:
    find = wanted(request.GET)
    found = User.objects.filter(Q(username__icontains=find) | Q(email__icontains=find))
    ctx = {
        "find": find,
        "page": page_of(found, request.GET.get("after", ""), "username"),
        "roles": SiteRole.choices,
        "invited": page_of(invitations.open_ones(), request.GET.get("invited", ""), "-pk"),
        "form": form,
        "link": link,
    }
    return render(request, "accounts/people.html", ctx, status=status)


@site_admin
@require_POST
def person_role(request: AuthenticatedRequest, user_id: int) -> HttpResponse:
    person = get_object_or_404(User, pk=user_id)
    form = RoleForm(request.POST)
    if form.is_valid():
        try:
            people.change_role(person, form.cleaned_data["role"], by=request.user)
            messages.success(
                request, _("{person} has the role “{role}” now.").format(person=person, role=person.get_role_display())
            )
        except people.LastAdmin as error:
            messages.error(request, str(error))
    return redirect("people")


@site_admin
@require_POST
def person_active(request: AuthenticatedRequest, user_id: int) -> HttpResponse:
    """Deactivate or reactivate: `active=1` or `active=0`."""
    person = get_object_or_404(User, pk=user_id)
    active = request.POST.get("active") == "1"
    try:
        people.set_active(person, active, by=request.user)
        messages.success(
            request,
            _("{person} is active again.").format(person=person)
            if active
            else _("{person} is deactivated.").format(person=person),
        )
    except people.LastAdmin as error:
        messages.error(request, str(error))
    return redirect("people")


@site_admin
@require_POST
def person_erase(request: AuthenticatedRequest, user_id: int) -> HttpResponse:
    person = get_object_or_404(User, pk=user_id)
    try:
        privacy.erase(person, by=request.user)
        messages.success(
            request, _("The person is erased; their answers stay, as those of {person}.").format(person=person)
        )
    except people.LastAdmin as error:
        messages.error(request, str(error))
    return redirect("people")


@signed_in
@require_POST
def invitation_revoke(request: AuthenticatedRequest, invitation_id: int) -> HttpResponse:
    """By an admin, or by a manager of the campaign it invites to."""
    invitation = get_object_or_404(invitations.revocable_by(request.user), pk=invitation_id)
    invitations.revoke(invitation, by=request.user)
    messages.success(request, _("The invitation is revoked."))
    if invitation.campaign is not None and not request.user.is_site_admin:
        return redirect("campaign_invitations", invitation.campaign.public_id)
    return redirect("people")


@public
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def invitation_accept(request: HttpRequest, token: str) -> HttpResponse:
    """Where an invitation link leads: make an account, or join with the one that is signed in."""
    try:
        invitation = invitations.find_usable(token)
        if isinstance(request.user, User):
            return _join(request, request.user, invitation, token)
        return _make_account(request, invitation, token)
    except invitations.InvitationUnusable:
        return render(request, "accounts/invitation_unusable.html", status=404)


def _join(request: HttpRequest, user: User, invitation: Invitation, token: str) -> HttpResponse:
    error, status = "", 200
    if request.method == "POST":
        try:
            accepted = invitations.accept_as(user, token)
            messages.success(request, _("Welcome to {campaign}.").format(campaign=accepted.campaign))
            return redirect("home")
        except invitations.CannotJoin as refusal:
            error, status = str(refusal), 409
    ctx = {"invitation": invitation, "error": error}
    return render(request, "accounts/invitation_join.html", ctx, status=status)


def _make_account(request: HttpRequest, invitation: Invitation, token: str) -> HttpResponse:
    form = AcceptForm(request.POST or None, initial={"email": invitation.email})
    if request.method == "POST" and form.is_valid():
        try:
            user = invitations.accept_as_new_person(token, **form.cleaned_data)
            login(request, user)
            return redirect("home")
        except invitations.CannotJoin as refusal:
            form.add_error(None, str(refusal))
    status = 422 if form.errors else 200
    return render(request, "accounts/invitation_accept.html", {"invitation": invitation, "form": form}, status=status)


@signed_in
@require_safe
def profile(request: AuthenticatedRequest) -> HttpResponse:
    return _profile_page(request, TokenForm(request.user))


@signed_in
@require_POST
def preferences_save(request: AuthenticatedRequest) -> HttpResponse:
    """One setting or several; what is not sent stays. Back to the page that asked, or only a status for its script."""
    given = {name: value for name, value in request.POST.items() if name not in ("csrfmiddlewaretoken", "next")}
    try:
        set_preferences(request.user, {name: str(value) for name, value in given.items()})
    except InvalidPreference as problem:
        return HttpResponse(str(problem), status=422, content_type="text/plain")
    if request.htmx:
        return HttpResponse(status=204)
    back = request.POST.get("next", "")
    return redirect(back if url_has_allowed_host_and_scheme(back, {request.get_host()}) else "profile")


@signed_in
@require_safe
@never_cache
def profile_data(request: AuthenticatedRequest) -> HttpResponse:
    """All that is stored about the person who asks, as a file."""
    headers = {"Content-Disposition": 'attachment; filename="my-data.jsonl"'}
    return HttpResponse(privacy.personal_data(request.user), "application/x-ndjson", headers=headers)


@signed_in
@require_POST
@never_cache
def token_create(request: AuthenticatedRequest) -> HttpResponse:
    form = TokenForm(request.user, request.POST)
    if not form.is_valid():
        return _profile_page(request, form, status=422)
    _token, token = tokens.create_token(request.user, **form.cleaned_data)
    return _profile_page(request, TokenForm(request.user), token=token)


@signed_in
@require_POST
def token_revoke(request: AuthenticatedRequest, token_id: int) -> HttpResponse:
    if not tokens.revoke_token(request.user, token_id):
        raise Http404
    messages.success(request, _("The token is revoked."))
    return redirect("profile")


def _profile_page(
    request: AuthenticatedRequest, form: TokenForm, *, token: str = "", status: int = 200
) -> HttpResponse:
    memberships = request.user.memberships.filter(campaign__deleted_at=None).select_related("campaign")
    usable = ApiToken.objects.filter(user=request.user, revoked_at=None)
    ctx = {
        "memberships": memberships.order_by("-pk")[:NEWEST_MEMBERSHIPS],
        "page": page_of(usable, request.GET.get("after", ""), "-pk"),
        "form": form,
        "new_token": token,
        "preferences": preferences_of(request.user),
        "now": timezone.now(),
    }
    return render(request, "accounts/profile.html", ctx, status=status)


def _link(request: HttpRequest, token: str) -> str:
    return request.build_absolute_uri(reverse("invitation_accept", args=[token]))

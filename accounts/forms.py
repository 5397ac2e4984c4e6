from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm
from django import forms
from django.contrib.auth.password_validation import password_validators_help_text_html, validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiToken, CampaignRole, Scope, SiteRole, User
from labeling.models import Campaign


class SignInForm(LoginForm):
    """allauth's, in our words, with the cursor in the first field."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        login = self.fields["login"]
        login.label = _("Username or email")
        login.widget.attrs = {"autocomplete": "username", "autofocus": True}
        self.fields["remember"].label = _("Remember me")


class InviteForm(forms.Form):
    """An admin invites to the site and, if wanted, to a campaign."""

    role = forms.ChoiceField(choices=SiteRole.choices, initial=SiteRole.ANNOTATOR, label=_("Site role"))
    campaign = forms.ModelChoiceField(
        Campaign.objects.filter(deleted_at=None), label=_("Campaign"), required=False, empty_label=_("No campaign")
    )
    campaign_role = forms.ChoiceField(
        choices=CampaignRole.choices, initial=CampaignRole.ANNOTATOR, label=_("Role in the campaign")
    )
    email = forms.EmailField(
        label=_("Email"), required=False, help_text=_("Optional; filled in for them. Nothing is sent.")
    )
    days = forms.IntegerField(min_value=1, max_value=90, initial=7, label=_("Valid for (days)"))


class CampaignInviteForm(forms.Form):
    """A manager invites to one campaign."""

    campaign_role = forms.ChoiceField(
        choices=CampaignRole.choices, initial=CampaignRole.ANNOTATOR, label=_("Role in the campaign")
    )
    email = forms.EmailField(
        label=_("Email"), required=False, help_text=_("Optional; filled in for them. Nothing is sent.")
    )
    days = forms.IntegerField(min_value=1, max_value=90, initial=7, label=_("Valid for (days)"))


class AcceptForm(forms.Form):
    """Somebody new takes up an invitation."""

    username = forms.CharField(
        label=_("Username"),
        max_length=150,
        validators=[UnicodeUsernameValidator()],
        help_text=_("Shown to the people who run the campaigns. Letters, digits and @ . + - _"),
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "autofocus": True}),
    )
    email = forms.EmailField(
        label=_("Email"),
        required=False,
        help_text=_("Optional. You can sign in with it, too."),
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
    password = forms.CharField(
        label=_("Password"),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=password_validators_help_text_html(),
        strip=False,
    )

    def clean_username(self) -> str:
        username: str = User.normalize_username(self.cleaned_data["username"])
        if User.objects.filter(username__iexact=username).exists():
            raise forms.ValidationError(_("This user name is taken."))
        return username

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        if email and User.objects.filter(email__iexact=email).exists():
            raise forms.ValidationError(_("An account with this address exists. Sign in, then open the link again."))
        return email

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if "password" in data:
            person = User(username=data.get("username", ""), email=data.get("email", ""))
            try:
                validate_password(data["password"], person)
            except forms.ValidationError as error:
                self.add_error("password", error)
        return data


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=SiteRole.choices)


class TokenForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("What it is for, e.g. “export script”."))
    scope = forms.ChoiceField(choices=Scope.choices, initial=Scope.READ, label=_("What it may do, at most"))
    days = forms.IntegerField(min_value=1, max_value=365, initial=90, label=_("Valid for (days)"))

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if ApiToken.objects.filter(user=self.user, name=name, revoked_at=None).exists():
            raise forms.ValidationError(_("You have a token of this name. Revoke it or choose another name."))
        return name

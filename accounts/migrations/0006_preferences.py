from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_apitoken_scope")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="preferences",
            field=models.JSONField(default=dict, db_default={}, blank=True, editable=False),
        ),
    ]

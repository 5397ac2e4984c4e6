import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FILL = """
UPDATE labeling_skip skip SET campaign_id = item.campaign_id FROM labeling_item item WHERE item.id = skip.item_id
"""


class Migration(migrations.Migration):
    dependencies = [
        ("labeling", "0016_check_and_leak_indexes"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="skip",
            name="campaign",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="skips",
                to="labeling.campaign",
            ),
        ),
        # A foreign key that is checked at the end of the transaction would forbid to change the table after this.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="skip",
            name="campaign",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="skips",
                to="labeling.campaign",
            ),
        ),
        migrations.AddIndex(
            model_name="skip",
            index=models.Index(fields=["campaign", "user"], name="skip_campaign_idx"),
        ),
    ]

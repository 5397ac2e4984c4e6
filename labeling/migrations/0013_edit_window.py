import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("labeling", "0012_watch")]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="edit_minutes",
            field=models.PositiveSmallIntegerField(
                blank=True,
                db_default=60,
                default=60,
                help_text="By whoever gave them, from the list of their answers. 0: never.",
                validators=[django.core.validators.MaxValueValidator(10080)],
                verbose_name="Answers can be changed for so many minutes",
            ),
        ),
    ]

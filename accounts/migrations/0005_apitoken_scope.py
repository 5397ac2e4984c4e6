from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_cache_table")]

    operations = [
        migrations.AddField(
            model_name="apitoken",
            name="scope",
            field=models.CharField(
                choices=[
                    ("read", "Read: see what you may see, change nothing"),
                    ("label", "Label: take items and answer them"),
                    ("manage", "Manage: campaigns, items, members, runs and models"),
                    ("admin", "Admin: people of the whole site, too"),
                ],
                default="admin",  # tokens that are there go on doing what they did
                max_length=6,
            ),
            preserve_default=False,
        ),
    ]

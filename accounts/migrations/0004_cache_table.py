from django.db import migrations


class Migration(migrations.Migration):
    """The table of Django's database cache (`CACHES`), which is no model.

    As `createcachetable` makes it, but unlogged: it holds counts of minutes, so it may be empty after a crash.
    """

    dependencies = [
        ('accounts', '0003_unique_names'),
    ]

    operations = [
        migrations.RunSQL(
            [
                """
                CREATE UNLOGGED TABLE django_cache (
                    cache_key varchar(255) NOT NULL PRIMARY KEY,
                    value text NOT NULL,
                    expires timestamp with time zone NOT NULL
                )
                """,
                "CREATE INDEX django_cache_expires ON django_cache (expires)",
            ],
            "DROP TABLE django_cache",
        ),
    ]

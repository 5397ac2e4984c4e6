from django.db import migrations, models

# Whoever gets at the database through the application, or by mistake: what people gave stays as they gave it. A slot
# may go (its answers then belong to none), and the status is how an answer is withdrawn or replaced.
APPEND_ONLY = """
CREATE FUNCTION labeling_keep_rankings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'status' - 'slot_id' = to_jsonb(OLD) - 'status' - 'slot_id' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'Rankings are append-only: only their status changes.' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER keep_rankings BEFORE UPDATE OR DELETE ON labeling_ranking
FOR EACH ROW EXECUTE FUNCTION labeling_keep_rankings();
"""
BACK = """
DROP TRIGGER keep_rankings ON labeling_ranking;
DROP FUNCTION labeling_keep_rankings();
"""


class Migration(migrations.Migration):
    dependencies = [("labeling", "0010_webhooks")]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="deleted_at",
            field=models.DateTimeField(editable=False, help_text="Hidden since; see `retention`.", null=True),
        ),
        migrations.RunSQL(APPEND_ONLY, BACK),
    ]

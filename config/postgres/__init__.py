"""`ENGINE = "config.postgres"`: Django's PostgreSQL, with connections that are kept, and checked for free."""

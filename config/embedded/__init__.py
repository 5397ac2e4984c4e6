"""A Django database engine that starts its own PostgreSQL under `var/` on the first connection."""

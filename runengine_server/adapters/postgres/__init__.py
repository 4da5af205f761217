"""The ports on PostgreSQL: every statement is in queries/ or migrations/."""

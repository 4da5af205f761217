#!/bin/sh
# Run by the PostgreSQL image when its volume is new: makes both roles, with the passwords of the secrets.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\ir /etc/runengine/roles.sql
\set migrator `cat /run/secrets/migrator_password`
\set app `cat /run/secrets/app_password`
ALTER ROLE runengine_migrator PASSWORD :'migrator';
ALTER ROLE runengine_app PASSWORD :'app';
SQL

#!/bin/sh
# Makes secrets/ beside this file: random passwords, the URLs with them, and a tokens file whose token is printed once.
# Leaves a folder that is there alone: databases keep the passwords they were made with.
set -eu
cd "$(dirname "$0")"
if [ -d secrets ]; then
    echo "secrets/ is there already; remove it, and the volumes, to begin anew" >&2
    exit 1
fi
random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}
write() {
    printf '%s\n' "$2" >"secrets/$1"
    # Containers read them as users of their own; the folder keeps others of this machine out.
    chmod 0444 "secrets/$1"
}
umask 077
mkdir secrets
migrator=$(random)
app=$(random)
valkey=$(random)
token=$(random)
write postgres_password "$(random)"
write migrator_password "$migrator"
write app_password "$app"
write migrator_database_url "postgresql://runengine_migrator:$migrator@postgres:5432/runengine"
write app_database_url "postgresql://runengine_app:$app@postgres:5432/runengine"
write valkey.conf "requirepass $valkey"
write redis_url "redis://:$valkey@valkey:6379/0"
write grafana_password "$(random)"
write tokens.yaml "- token_sha256: $(printf %s "$token" | sha256sum | cut -d ' ' -f 1)
  principal: operator
  tenant: default
  scopes: [run:read, run:write, workflow:write, cache:admin]"
echo "export TOKEN=$token"
echo "Grafana's password, of the user admin, is in secrets/grafana_password." >&2

#!/bin/sh
# Sets the passwords that the environment names, keeps those of other agents, and becomes Mosquitto.
set -eu
umask 077
data=${MOSQUITTO_DATA:-/mosquitto/data}
touch "$data/passwords"
new=$(mktemp)
printf '%s\n' "service.ingest:$INGEST_PASSWORD" "service.scheduler:$SCHEDULER_PASSWORD" \
  "service.operator:$OPERATOR_PASSWORD" "$AGENT_HOST:$AGENT_PASSWORD" > "$new"
mosquitto_passwd -U "$new"
# What was there already, less the names that are set anew.
cut -d: -f1 "$new" | sed 's/[.]/[.]/g; s/^/^/; s/$/:/' > "$new.names"
grep -v -f "$new.names" "$data/passwords" >> "$new" || true
cat "$new" > "$data/passwords"
rm -f "$new" "$new.names"
if [ "$(id -u)" = 0 ]; then
  chown mosquitto "$data" "$data/passwords"
fi
exec mosquitto -c "${MOSQUITTO_CONF:-/mosquitto/config/mosquitto.conf}"

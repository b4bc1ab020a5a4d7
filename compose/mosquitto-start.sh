#!/bin/sh
# Sets the passwords that the environment names, keeps those of other agents, and becomes Mosquitto. Whenever the passwords or
# the access rules change (drumbeat acl writes them for every credential that is issued or revoked), it reads them again.
set -eu
umask 077
data=${MOSQUITTO_DATA:-/mosquitto/data} config=${MOSQUITTO_CONFIG:-/mosquitto/config}
touch "$data/passwords"
[ -f "$data/mosquitto.acl" ] || cp "$config/mosquitto.acl" "$data/mosquitto.acl"
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
  chown mosquitto "$data" "$data/passwords" "$data/mosquitto.acl"
fi
broker=$$ # after exec, Mosquitto's
(
  seen=$(cat "$data/passwords" "$data/mosquitto.acl" | cksum)
  while sleep 1 && kill -0 "$broker"; do
    now=$(cat "$data/passwords" "$data/mosquitto.acl" | cksum)
    [ "$now" = "$seen" ] || kill -HUP "$broker"
    seen=$now
  done
) 2>/dev/null &
exec mosquitto -c "$config/mosquitto.conf"

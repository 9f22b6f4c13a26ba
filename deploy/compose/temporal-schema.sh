#!/bin/sh
# The tables of Temporal, made or brought up to date; a version that is there already is left alone.
set -eu
SQL_PASSWORD="$(cat /run/secrets/TEMPORAL_DATABASE_PASSWORD)"
export SQL_PASSWORD
for database in temporal temporal_visibility; do
    directory="/etc/temporal/schema/postgresql/v12/${database#temporal_}/versioned"
    tool() { temporal-sql-tool --plugin postgres12 --endpoint postgres --port 5432 --user temporal --database "$database" "$@"; }
    tool setup-schema --version 0.0
    tool update-schema --schema-dir "$directory"
done

#!/bin/sh
# Run once, by the image of PostgreSQL, when its volume is new: a role and databases for the service and for Temporal.
set -eu
secret() { cat "/run/secrets/$1"; }
psql --username=postgres --set=ON_ERROR_STOP=1 \
    --set=coafi="$(secret COAFI_DATABASE_PASSWORD)" --set=temporal="$(secret TEMPORAL_DATABASE_PASSWORD)" <<'SQL'
CREATE ROLE coafi LOGIN PASSWORD :'coafi';
CREATE DATABASE coafi OWNER coafi ENCODING 'UTF8' TEMPLATE template0;
CREATE ROLE temporal LOGIN PASSWORD :'temporal';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
SQL

#!/bin/sh
# Run once by the Postgres image, on an empty data folder: databases, the ledger's roles, and one login a service.
# Passwords come from secret files and go into no command line and no log.
set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
-- A statement that fails would stand in the log, password and all.
set log_min_error_statement = panic;
\set migrator `cat /run/secrets/postgres_migrator_password`
\set writer `cat /run/secrets/postgres_writer_password`
\set reader `cat /run/secrets/postgres_reader_password`
\set signer `cat /run/secrets/postgres_signer_password`
\set keys `cat /run/secrets/postgres_keys_password`
create role ledger_migrator login password :'migrator';
create role ledger_writer login password :'writer';
create role ledger_reader login password :'reader';
create role ledger_signer login password :'signer';
create role ledger_keys login password :'keys';
create database edict;
create database edict_keys owner ledger_keys;
revoke connect on database edict, edict_keys from public;
grant connect on database edict to ledger_migrator, ledger_writer, ledger_reader, ledger_signer;
SQL

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname edict --file /migrations/roles.sql
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname edict <<'SQL'
grant edict_owner to ledger_migrator;
grant edict_writer to ledger_writer;
grant edict_reader_all to ledger_reader;
grant edict_signer to ledger_signer;
SQL

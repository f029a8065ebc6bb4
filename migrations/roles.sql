-- The roles of the ledger's database: run by `edict migrate` when one is missing, or by an administrator in this
-- database beforehand (any number of times), so that the login behind `database.owner_url_file` needs no CREATEROLE.
--
-- None of them logs in. Make a login for each service and grant it exactly one of them:
--   edict_owner       owns every object; only migrations and `edict ledger create` act as it
--   edict_writer      the audit service's ingest: inserts entries, moves heads and cursors
--   edict_reader      queries, limited to the logs of the tenants that edict.reader_tenant gives its roles
--   edict_reader_all  the audit service's own reader: every tenant (the service checks each caller itself)
--   edict_signer      reads headers and payloads, signs checkpoints
--   edict_maintainer  retention: drops payload segments with their search rows
--   edict_tripwire    raises alarms; its login needs the attribute REPLICATION too, which no role passes on
do $$
declare
  wanted text;
begin
  foreach wanted in array array['edict_owner', 'edict_writer', 'edict_reader', 'edict_reader_all', 'edict_signer',
                                'edict_maintainer', 'edict_tripwire'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin', wanted);
      exception when duplicate_object or unique_violation then
        null; -- roles belong to the whole server: another database's migration was first
      end;
    end if;
  end loop;
  if not pg_has_role('edict_reader_all', 'edict_reader', 'member') then
    begin
      grant edict_reader to edict_reader_all;
    exception when unique_violation then
      null;
    end;
  end if;
  if not pg_has_role('edict_owner', 'member') then
    execute format('grant edict_owner to %I', current_user);
  end if;
  if not has_database_privilege('edict_owner', current_database(), 'create') then
    execute format('grant create on database %I to edict_owner', current_database());
  end if;
end
$$;

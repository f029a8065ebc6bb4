-- What the roles may still see too much of, and what the tripwire needs.
--
-- * A reader of one tenant saw every emitter, and how far each partition was read: the first is for the tenants that the
--   emitter wrote for, the second for nobody who reads a ledger.
-- * Functions of later migrations belong to nobody but who is granted them: `revoke all` in 0001 knew only its own.
-- * The tripwire (`edict serve tripwire`) reads the write-ahead log through a replication slot. The publications say
--   which changes of which table reach it, so the server filters, and inserts, which are nearly everything, are never
--   sent. A table that is not named here is append-only: any change of a row is an alarm. Partitions are watched with
--   their parent, also later ones. Nothing here needs `wal_level = logical`; only the tripwire does.

revoke select on edict.source_cursor from edict_reader;
alter table edict.emitter enable row level security;
create policy reader on edict.emitter for select to edict_reader
  using (exists (select from edict.stream s
                 where s.emitter = emitter.emitter and s.log_id = any (array(select r.id from edict.readable_log r))));
-- An emitter that has written nothing yet, too.
create policy reader_all on edict.emitter for select to edict_reader_all using (true);
create policy service on edict.emitter to edict_writer using (true) with check (true);

alter default privileges for role edict_owner revoke execute on functions from public;

-- What the tripwire saw: inserted by it, made an alert entry of the system ledger by the writer.
create table edict.tripwire_alarm (
  -- Of the commit; where the watch was interrupted, the last place that it had seen.
  lsn pg_lsn not null,
  -- Null where no single transaction is meant.
  xid bigint check (xid >= 0),
  -- Schema and table, a partition by its own name; empty where no single table is meant.
  relation text collate "C" not null check (octet_length(relation) <= 200),
  operation text collate "C" not null check (operation ~ '^[a-z_]{1,40}$'),
  rows bigint not null check (rows >= 0),
  -- Primary keys of the first rows, as text; never another column.
  keys text[] collate "C" not null check (cardinality(keys) <= 10),
  committed_us bigint,
  raised_us bigint not null,
  -- The alert entry in the system ledger; null until there is one.
  seq bigint,
  primary key (lsn, relation, operation)
);
create trigger stays before delete on edict.tripwire_alarm
  for each row execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.tripwire_alarm
  for each statement execute function edict.refuse_change();
alter table edict.tripwire_alarm enable always trigger stays;
alter table edict.tripwire_alarm enable always trigger no_truncate;

grant usage on schema edict to edict_tripwire;
grant insert on edict.tripwire_alarm to edict_tripwire;
-- Which partitions the maintainer dropped, so that nothing else that is gone is taken for that.
grant select on edict.dropped_segment to edict_tripwire;
create policy tripwire on edict.dropped_segment for select to edict_tripwire using (true);
grant select on edict.tripwire_alarm to edict_writer;
grant update (seq) on edict.tripwire_alarm to edict_writer;

do $$
declare
  -- Rows that the programs change as they go, and never remove.
  moving constant text[] := array['log_head', 'stream', 'emitter', 'source_cursor', 'ingest_count', 'verification',
                                  'signer_alarm', 'tripwire_alarm', 'erasure'];
  -- Rows that go, through their functions, by an erasure or a retention entry, and nobody changes.
  removable constant text[] := array['decision', 'artifact_part'];
  -- The owner's own list of readers, and what only an embedded database uses.
  unwatched constant text[] := array['reader_tenant', 'journal_mark'];
  appended text;
begin
  select string_agg(format('edict.%I', c.relname), ', ' order by c.relname) into appended
  from pg_catalog.pg_class c
  where c.relnamespace = 'edict'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    and c.relname <> all (moving || removable || unwatched);
  execute format('create publication edict_append_only for table %s with (publish = ''update, delete, truncate'')',
                 appended);
  execute format('create publication edict_no_removal for table %s with (publish = ''delete, truncate'')',
                 (select string_agg(format('edict.%I', t), ', ') from unnest(moving) t));
  execute format('create publication edict_no_change for table %s with (publish = ''update, truncate'')',
                 (select string_agg(format('edict.%I', t), ', ') from unnest(removable) t));
end
$$;

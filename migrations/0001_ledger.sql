-- The ledger: one append-only log per tenant, shard and incarnation.
--
-- Why it looks like this:
-- * Headers (`entry`) and encrypted payloads (`payload`) lie apart, partitioned by log and then by segment
--   (seq >> 16), so that old payloads can be dropped whole while every header, and so every proof, stays.
-- * `seq` comes from the row-locked head, never from a sequence: a rolled-back transaction leaves no hole.
-- * What changes (heads, cursors, streams) lies in tables of its own, because the writer may not UPDATE entries.
-- * Privileges stop the honest program, triggers stop the mistaken owner; a superuser is stopped by neither, only
--   by checkpoints that others hold. Row triggers are cloned to partitions, TRUNCATE triggers are not: the function
--   that makes partitions adds them. All are ENABLE ALWAYS, so session_replication_role = replica changes nothing.
-- * The checks on `entry` tie the row to the bytes that are hashed: a writer's mistake fails at the insert.
-- * `boot` and `number` are u64 chosen by emitters, so bigint would let a hostile one make a message unstorable.
-- * Times are integers with their unit in the name, as in the entries: no time zone, no rounding.

create domain edict.u64 as numeric(20, 0) check (value between 0 and 18446744073709551615);
create domain edict.tenant as text collate "C" check (value ~ '^[a-z0-9][a-z0-9-]{0,62}$');
create domain edict.emitter_id as text collate "C" check (value ~ '^[0-9a-f]{32}$');
create domain edict.digest as bytea check (octet_length(value) = 32);

-- Logs and their heads ------------------------------------------------------------------------------------------

create table edict.log (
  -- Given by `edict ledger create`, one more than the last: a rebuild from the journal must give the same.
  id integer primary key check (id >= 1),
  tenant edict.tenant not null,
  shard integer not null default 0 check (shard >= 0),
  incarnation integer not null check (incarnation >= 1),
  origin text collate "C" not null unique,
  vkey text collate "C" not null,
  previous_origin text collate "C",
  previous_size bigint check (previous_size >= 0),
  previous_root edict.digest,
  created_us bigint not null,
  unique (tenant, shard, incarnation),
  check (num_nulls(previous_origin, previous_size, previous_root) in (0, 3))
);

-- The one mutable row of a log. Its row lock is what makes the writer the only one.
create table edict.log_head (
  log_id integer primary key references edict.log,
  size bigint not null check (size >= 0),
  -- The leaf hash of entry size - 1; the genesis hash while the log is empty.
  leaf edict.digest not null,
  last_ingest_us bigint not null
) with (fillfactor = 50);

-- Entries and payloads ------------------------------------------------------------------------------------------

create table edict.entry (
  log_id integer not null,
  segment integer not null,
  seq bigint not null check (seq >= 0),
  -- E_i: format, kind, seq, ingest time, event id, where it came from, commitment, previous leaf.
  header bytea not null check (octet_length(header) between 178 and 65535),
  leaf bytea not null,
  primary key (log_id, segment, seq),
  constraint entry_leaf check (leaf = sha256('\x00'::bytea || header)),
  constraint entry_segment check (segment = seq >> 16),
  constraint entry_position check (substr(header, 3, 8) = int8send(seq))
) partition by list (log_id);

create table edict.payload (
  log_id integer not null,
  segment integer not null,
  seq bigint not null check (seq >= 0),
  -- nonce(12) ‖ AES-256-GCM(salt ‖ lp(content type) ‖ P) ‖ tag(16); the key lies in the key store.
  ciphertext bytea not null check (octet_length(ciphertext) >= 64),
  primary key (log_id, segment, seq),
  constraint payload_segment check (segment = seq >> 16)
) partition by list (log_id);
-- Encrypted bytes do not compress: do not try.
alter table edict.payload alter column ciphertext set storage external;

-- Ingest --------------------------------------------------------------------------------------------------------

-- One row for each event that became an entry: finds duplicates and conflicts, and an entry by its event id.
create table edict.received (
  log_id integer not null, -- no foreign key here and in `decision`: it would cost a look-up for every row
  event_id uuid not null,
  digest edict.digest not null, -- SHA-256 of the event's bytes; they hold a nonce, so it reveals nothing
  emitter edict.emitter_id not null,
  boot edict.u64 not null,
  number edict.u64 not null,
  seq bigint not null,
  primary key (log_id, event_id),
  unique (log_id, emitter, boot, number)
);

-- How far each stream (emitter, boot, tenant's log) is complete.
create table edict.stream (
  log_id integer not null references edict.log,
  emitter edict.emitter_id not null,
  boot edict.u64 not null,
  complete_to edict.u64 not null default 0,
  highest edict.u64 not null default 0,
  highest_digest bytea,
  holes jsonb not null default '[]',
  covered_to edict.u64 not null default 0,
  last_event_ms bigint,
  last_ingest_us bigint not null,
  state text not null default 'active' check (state in ('active', 'idle', 'final', 'retired')),
  primary key (log_id, emitter, boot)
) with (fillfactor = 70);

create table edict.emitter (
  emitter edict.emitter_id primary key,
  public_key bytea check (octet_length(public_key) = 32),
  attested boolean not null default false,
  retired boolean not null default false,
  first_seen_us bigint not null,
  last_seen_us bigint not null
) with (fillfactor = 70);

-- Events of tenants without a ledger: quarantined in the system ledger, once each.
create table edict.unknown_tenant_event (
  emitter edict.emitter_id not null,
  boot edict.u64 not null,
  tenant text collate "C" not null check (octet_length(tenant) <= 256),
  number edict.u64 not null,
  seq bigint not null,
  primary key (emitter, boot, tenant, number)
);

-- Moves by compare-and-set in the transaction of the rows: a consumer that lost its partition changes nothing.
create table edict.source_cursor (
  topic text collate "C" not null,
  partition integer not null check (partition >= 0),
  next_offset bigint not null check (next_offset >= 0),
  primary key (topic, partition)
) with (fillfactor = 50);

create table edict.ingest_count (
  log_id integer not null references edict.log,
  name text collate "C" not null,
  value bigint not null default 0,
  primary key (log_id, name)
) with (fillfactor = 50);

-- Search: derived from payloads, rebuildable, proves nothing, so outside the append-only triggers ----------------

create table edict.decision (
  log_id integer not null,
  seq bigint not null,
  event_id uuid not null,
  event_time_ms bigint not null,
  ingest_us bigint not null,
  decision text not null check (decision in ('allow', 'deny')),
  reasons text[] not null,
  subject edict.digest not null, -- HMAC pseudonym, keyed per tenant
  agent text collate "C",
  action text collate "C" not null,
  resource_type text collate "C" not null,
  resource text collate "C" not null,
  purpose text collate "C",
  session_id text collate "C",
  request_id text collate "C",
  caller text collate "C" not null,
  primary key (log_id, seq)
);
create index decision_subject on edict.decision (log_id, subject, seq);
create index decision_agent on edict.decision (log_id, agent, seq) where agent is not null;
create index decision_resource on edict.decision (log_id, resource, seq);
create index decision_session on edict.decision (log_id, session_id, seq) where session_id is not null;
create index decision_request on edict.decision (log_id, request_id, seq) where request_id is not null;
create index decision_denied on edict.decision (log_id, seq) where decision = 'deny';
create index decision_time on edict.decision using brin (event_time_ms) with (pages_per_range = 16);

-- Embedded database only: the number of the last journal frame whose transaction is in the database. Written in that
-- transaction, so after a power cut the frames behind it are the ones to apply again.
create table edict.journal_mark (
  only_row boolean primary key default true check (only_row),
  frame bigint not null check (frame >= 0)
);

-- Reports of verifications.
create table edict.verification (
  id uuid primary key,
  log_id integer not null references edict.log,
  tree_size bigint not null,
  started_us bigint not null,
  finished_us bigint,
  state text not null check (state in ('running', 'done', 'failed')),
  report jsonb not null default '{}'
);
create index verification_log on edict.verification (log_id, started_us);

-- Retention: which payload segments are gone, and by which entry.
create table edict.dropped_segment (
  log_id integer not null references edict.log,
  segment integer not null,
  retention_seq bigint not null,
  dropped_by name not null default session_user,
  dropped_at timestamptz not null default now(),
  primary key (log_id, segment)
);

-- Guards --------------------------------------------------------------------------------------------------------

create function edict.refuse_change() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception '%.% is append-only: % refused', tg_table_schema, tg_table_name, tg_op
    using errcode = 'insufficient_privilege';
end
$$;

create function edict.refuse_rewind() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op <> 'UPDATE' then
    raise exception 'a log head cannot be removed: % refused', tg_op using errcode = 'insufficient_privilege';
  end if;
  if new.log_id <> old.log_id or new.size < old.size or new.last_ingest_us < old.last_ingest_us then
    raise exception 'the head of log % cannot go back', old.log_id using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;

create trigger append_only before update or delete on edict.entry
  for each row execute function edict.refuse_change();
create trigger append_only before update or delete on edict.payload
  for each row execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.entry
  for each statement execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.payload
  for each statement execute function edict.refuse_change();
create trigger append_only before update or delete on edict.log
  for each row execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.log
  for each statement execute function edict.refuse_change();
create trigger only_forward before update or delete on edict.log_head
  for each row execute function edict.refuse_rewind();
create trigger no_truncate before truncate on edict.log_head
  for each statement execute function edict.refuse_rewind();
create trigger append_only before update or delete on edict.dropped_segment
  for each row execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.dropped_segment
  for each statement execute function edict.refuse_change();
alter table edict.entry enable always trigger append_only;
alter table edict.entry enable always trigger no_truncate;
alter table edict.payload enable always trigger append_only;
alter table edict.payload enable always trigger no_truncate;
alter table edict.log enable always trigger append_only;
alter table edict.log enable always trigger no_truncate;
alter table edict.log_head enable always trigger only_forward;
alter table edict.log_head enable always trigger no_truncate;
alter table edict.dropped_segment enable always trigger append_only;
alter table edict.dropped_segment enable always trigger no_truncate;

-- Makes `child` a guarded partition of `parent`. LIKE and ATTACH, not PARTITION OF: that one would lock readers out.
create function edict.attach_guarded(parent regclass, child name, key integer, subpartition boolean) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  execute format('create table edict.%I (like %s including all)%s', child, parent,
                 case when subpartition then ' partition by list (segment)' else '' end);
  execute format('alter table %s attach partition edict.%I for values in (%s)', parent, child, key);
  execute format('create trigger no_truncate before truncate on edict.%I '
                 'for each statement execute function edict.refuse_change()', child);
  execute format('alter table edict.%I enable always trigger no_truncate', child);
  execute format('alter table edict.%I enable always trigger append_only', child);
end
$$;

-- The next segment of a log, with its guards. Returns false when it is there already.
create function edict.create_segment(p_log_id integer, p_segment integer) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  log_size bigint;
  kind text;
begin
  select size into log_size from edict.log_head where log_id = p_log_id;
  if log_size is null then
    raise exception 'there is no log %', p_log_id using errcode = 'no_data_found';
  end if;
  if p_segment < 0 or p_segment > (log_size >> 16) + 1 then
    raise exception 'segment % is not the next one of log %', p_segment, p_log_id
      using errcode = 'invalid_parameter_value';
  end if;
  if to_regclass(format('edict.entry_l%s_s%s', p_log_id, p_segment)) is not null then
    return false;
  end if;
  foreach kind in array array['entry', 'payload'] loop
    if to_regclass(format('edict.%s_l%s', kind, p_log_id)) is null then
      perform edict.attach_guarded(format('edict.%s', kind)::regclass, format('%s_l%s', kind, p_log_id)::name,
                                   p_log_id, true);
    end if;
    perform edict.attach_guarded(format('edict.%s_l%s', kind, p_log_id)::regclass,
                                 format('%s_l%s_s%s', kind, p_log_id, p_segment)::name, p_segment, false);
  end loop;
  return true;
end
$$;

-- Drops the payloads of one full segment. `p_retention_seq` is the later entry of kind 6 (retention) that names it;
-- what that entry says is encrypted, so the verifier, not the database, reads it.
create function edict.drop_payload_segment(p_log_id integer, p_segment integer, p_retention_seq bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  past_end bigint := (p_segment::bigint + 1) << 16;
begin
  if p_segment < 0 or p_retention_seq < past_end or not exists (
    select from edict.entry
    where log_id = p_log_id and segment = p_retention_seq >> 16 and seq = p_retention_seq and get_byte(header, 1) = 6
  ) then
    raise exception 'segment % of log % is not full or entry % is no later retention entry',
      p_segment, p_log_id, p_retention_seq using errcode = 'invalid_parameter_value';
  end if;
  insert into edict.dropped_segment (log_id, segment, retention_seq) values (p_log_id, p_segment, p_retention_seq);
  execute format('drop table edict.payload_l%s_s%s', p_log_id, p_segment);
end
$$;

-- Who may do what -----------------------------------------------------------------------------------------------

-- Which tenants a reading role may see; '*' is all. Kept by the owner: nothing that a client can SET plays a part.
create table edict.reader_tenant (
  reader name not null,
  tenant text collate "C" not null check (tenant = '*' or tenant ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  primary key (reader, tenant)
);
insert into edict.reader_tenant (reader, tenant) values ('edict_reader_all', '*');

-- A view runs with its owner's rights, but pg_has_role() in it still asks about whoever queries.
create view edict.readable_log with (security_barrier) as
  select l.id, l.tenant::text as tenant
  from edict.log l
  where exists (
    select from edict.reader_tenant r
    where (r.tenant = '*' or r.tenant = l.tenant) and exists (select from pg_catalog.pg_roles p where p.rolname = r.reader)
      and pg_catalog.pg_has_role(r.reader, 'member')
  );

do $$
declare
  guarded text;
  id_column text;
begin
  foreach guarded in array array['log', 'log_head', 'entry', 'payload', 'received', 'stream', 'ingest_count', 'decision',
                                 'verification', 'dropped_segment'] loop
    id_column := case guarded when 'log' then 'id' else 'log_id' end;
    execute format('alter table edict.%I enable row level security', guarded);
    execute format('create policy reader on edict.%I for select to edict_reader '
                   'using (%I = any (array(select r.id from edict.readable_log r)))', guarded, id_column);
    execute format('create policy service on edict.%I to edict_writer, edict_signer, edict_maintainer '
                   'using (true) with check (true)', guarded);
  end loop;
end
$$;

revoke all on all functions in schema edict from public;
grant usage on schema edict to edict_writer, edict_reader, edict_signer, edict_maintainer;

grant select on edict.log, edict.log_head, edict.entry, edict.payload, edict.received, edict.stream, edict.emitter,
  edict.unknown_tenant_event, edict.source_cursor, edict.ingest_count, edict.decision, edict.verification,
  edict.dropped_segment to edict_writer;
grant insert on edict.entry, edict.payload, edict.received, edict.stream, edict.emitter, edict.unknown_tenant_event,
  edict.source_cursor, edict.ingest_count, edict.decision, edict.verification to edict_writer;
grant update (size, leaf, last_ingest_us) on edict.log_head to edict_writer;
grant update on edict.stream, edict.emitter, edict.ingest_count to edict_writer;
grant update (next_offset) on edict.source_cursor to edict_writer;
grant update (finished_us, state, report) on edict.verification to edict_writer;
grant execute on function edict.create_segment(integer, integer) to edict_writer;

grant select on edict.log, edict.log_head, edict.entry, edict.payload, edict.received, edict.stream, edict.emitter,
  edict.source_cursor, edict.ingest_count, edict.decision, edict.verification, edict.dropped_segment,
  edict.readable_log to edict_reader;

grant select on edict.log, edict.log_head, edict.entry, edict.payload, edict.dropped_segment to edict_signer;

grant select on edict.log, edict.log_head, edict.entry, edict.dropped_segment to edict_maintainer;
grant select, delete on edict.decision to edict_maintainer;
grant execute on function edict.drop_payload_segment(integer, integer, bigint) to edict_maintainer;

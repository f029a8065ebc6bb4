-- The meta log: one tree over the checkpoints of all tenants' logs, and what others say of it.
--
-- * Leaf = H(0x00 ‖ entry), entry = H(the tenant's checkpoint note). `log_id` and `size` name that checkpoint, so the
--   signer can read the note back and hash it again before it signs; each checkpoint is one leaf, in whatever incarnation.
--   No foreign key: a checkpoint that somebody took away is put back by the signer, and its leaf stays.
-- * Only the meta log meets witnesses and time stamp authorities, so their cost does not grow with tenants. What they
--   say of a checkpoint is only ever added.
-- * A reader of one tenant sees that tenant's leaves; checkpoints and hashes of tiles tell nobody who the tenants are.
create table edict.meta_log (
  -- That of the system tenant's ledger which it was made with.
  incarnation integer primary key check (incarnation >= 1),
  origin text collate "C" not null unique check (octet_length(origin) between 1 and 1024),
  vkey text collate "C" not null check (octet_length(vkey) between 1 and 2048),
  created_us bigint not null
);

create table edict.meta_leaf (
  incarnation integer not null references edict.meta_log,
  index bigint not null check (index >= 0),
  log_id integer not null references edict.log,
  size bigint not null check (size >= 1),
  entry edict.digest not null,
  primary key (incarnation, index),
  unique (log_id, size)
);

create table edict.meta_node (
  incarnation integer not null references edict.meta_log,
  level smallint not null check (level between 1 and 7),
  index bigint not null check (index >= 0),
  hash edict.digest not null,
  primary key (incarnation, level, index)
);

create table edict.meta_checkpoint (
  incarnation integer not null references edict.meta_log,
  size bigint not null check (size >= 1),
  root edict.digest not null,
  -- The C2SP signed note with the log's own signature.
  note bytea not null check (octet_length(note) between 1 and 65536),
  signed_us bigint not null,
  primary key (incarnation, size)
);

create table edict.meta_attestation (
  incarnation integer not null,
  size bigint not null,
  kind text collate "C" not null check (kind in ('cosignature', 'timestamp')),
  -- The witness's name, or the authority's address.
  source text collate "C" not null check (octet_length(source) between 1 and 1024),
  -- When it says that it saw the checkpoint.
  time_ms bigint not null check (time_ms >= 0),
  -- A signature line of the note, or a DER TimeStampResp.
  bytes bytea not null check (octet_length(bytes) between 1 and 65536),
  stored_us bigint not null,
  primary key (incarnation, size, kind, source, time_ms),
  foreign key (incarnation, size) references edict.meta_checkpoint
);

do $$
declare
  guarded text;
begin
  foreach guarded in array array['meta_log', 'meta_leaf', 'meta_node', 'meta_checkpoint', 'meta_attestation'] loop
    execute format('create trigger append_only before update or delete on edict.%I '
                   'for each row execute function edict.refuse_change()', guarded);
    execute format('create trigger no_truncate before truncate on edict.%I '
                   'for each statement execute function edict.refuse_change()', guarded);
    execute format('alter table edict.%I enable always trigger append_only', guarded);
    execute format('alter table edict.%I enable always trigger no_truncate', guarded);
    execute format('grant select on edict.%I to edict_writer, edict_reader, edict_signer', guarded);
    if guarded <> 'meta_log' then
      execute format('grant insert on edict.%I to edict_signer', guarded);
    end if;
  end loop;
end
$$;

alter table edict.meta_leaf enable row level security;
create policy reader on edict.meta_leaf for select to edict_reader
  using (log_id = any (array(select r.id from edict.readable_log r)));
create policy service on edict.meta_leaf to edict_writer, edict_signer using (true) with check (true);

-- Signed checkpoints, and what the signer computed of the tree.
--
-- * The signer alone inserts; nobody changes. A superuser does, and then they do not fit the entries any more, or not
--   the signer's own memory, which lies outside the database.
-- * `tree_node` has the hashes of the tiles above level 0 (C2SP tlog-tiles), 1/256 of the entries and fewer; the hashes
--   of level 0 are the leaves in `entry`. A row is a full subtree, so it never changes while the log grows.

-- Which entries are seals: kind 10 in the second byte of the header.
create index entry_seal on edict.entry (log_id, segment, seq) where get_byte(header, 1) = 10;

create table edict.checkpoint (
  log_id integer not null references edict.log,
  size bigint not null check (size >= 1),
  root edict.digest not null,
  -- The C2SP signed note, as it is served.
  note bytea not null check (octet_length(note) between 1 and 65536),
  signed_us bigint not null,
  primary key (log_id, size)
);

create table edict.tree_node (
  log_id integer not null references edict.log,
  -- Of the tile that the hash stands in: a hash of level L covers 256^L entries.
  level smallint not null check (level between 1 and 7),
  index bigint not null check (index >= 0),
  hash edict.digest not null,
  primary key (log_id, level, index)
);

-- Why the signer refuses to sign: raised by it once for each size it stands at, made an entry by the writer.
create table edict.signer_alarm (
  log_id integer not null references edict.log,
  alarm text collate "C" not null check (alarm ~ '^[a-z_]{1,40}$'),
  -- The largest size that the signer had signed then.
  signed_size bigint not null check (signed_size >= 0),
  what text not null check (octet_length(what) <= 2000),
  expected text not null check (octet_length(expected) <= 2000),
  actual text not null check (octet_length(actual) <= 2000),
  raised_us bigint not null,
  -- The alert entry in the system ledger; null until there is one.
  seq bigint,
  primary key (log_id, alarm, signed_size)
);

create trigger append_only before update or delete on edict.checkpoint
  for each row execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.checkpoint
  for each statement execute function edict.refuse_change();
create trigger append_only before update or delete on edict.tree_node
  for each row execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.tree_node
  for each statement execute function edict.refuse_change();
alter table edict.checkpoint enable always trigger append_only;
alter table edict.checkpoint enable always trigger no_truncate;
alter table edict.tree_node enable always trigger append_only;
alter table edict.tree_node enable always trigger no_truncate;

do $$
declare
  guarded text;
begin
  foreach guarded in array array['checkpoint', 'tree_node', 'signer_alarm'] loop
    execute format('alter table edict.%I enable row level security', guarded);
    execute format('create policy reader on edict.%I for select to edict_reader '
                   'using (log_id = any (array(select r.id from edict.readable_log r)))', guarded);
    execute format('create policy service on edict.%I to edict_writer, edict_signer, edict_maintainer '
                   'using (true) with check (true)', guarded);
  end loop;
end
$$;

grant select on edict.checkpoint, edict.tree_node, edict.signer_alarm to edict_writer, edict_reader, edict_signer;
grant select on edict.checkpoint to edict_maintainer;
grant insert on edict.checkpoint, edict.tree_node, edict.signer_alarm to edict_signer;
grant update (seq) on edict.signer_alarm to edict_writer;

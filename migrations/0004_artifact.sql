-- Which entries hold the parts of what: bundles by their digest, as artifact events say.
--
-- Derived from payloads, so outside the append-only triggers; it proves nothing. All that it says stands in the artifact
-- events of the ledger, but no command makes it from them again: a lost row hides a part until it is. Whoever reads an
-- artifact puts the parts of one boot together and compares the digest of the bytes, so a row that lies costs an answer
-- and never gives a wrong one.
create table edict.artifact_part (
  log_id integer not null, -- no foreign key: it would cost a look-up for every row
  digest edict.digest not null,
  emitter edict.emitter_id not null,
  boot edict.u64 not null,
  part integer not null check (part >= 1),
  parts integer not null check (parts >= part),
  bytes bigint not null check (bytes >= 1),
  media_type text collate "C" not null,
  seq bigint not null,
  primary key (log_id, digest, emitter, boot, part, seq)
);
alter table edict.artifact_part enable row level security;
create policy reader on edict.artifact_part for select to edict_reader
  using (log_id = any (array(select r.id from edict.readable_log r)));
create policy service on edict.artifact_part to edict_writer, edict_signer, edict_maintainer
  using (true) with check (true);
grant select, insert on edict.artifact_part to edict_writer;
grant select on edict.artifact_part to edict_reader;

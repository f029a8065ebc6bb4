-- What ingest remembers beside the entries themselves.

-- The digest that an event names as the one before it: two events that arrive in the wrong order are compared too.
alter table edict.received add column previous edict.digest;

-- Messages that became quarantine or conflict entries, so that sending them again fills no ledger.
create table edict.set_aside (
  log_id integer not null references edict.log,
  mark edict.digest not null, -- SHA-256 of the message's digest and headers
  seq bigint not null,
  primary key (log_id, mark)
);
alter table edict.set_aside enable row level security;
create policy reader on edict.set_aside for select to edict_reader
  using (log_id = any (array(select r.id from edict.readable_log r)));
create policy service on edict.set_aside to edict_writer, edict_signer, edict_maintainer using (true) with check (true);
grant select, insert on edict.set_aside to edict_writer;
grant select on edict.set_aside to edict_reader;

-- Streams that miss numbers: looked at every few seconds.
create index stream_open on edict.stream (log_id) where holes <> '[]'::jsonb;

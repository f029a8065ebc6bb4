-- The key store: what opens the ledger's payloads. Best on a server of its own, with backups that are kept for a
-- shorter time than the ledger's: erasing a person means destroying rows here.
--
-- * A data subject has one key, wrapped by the master key (a file, never in a database). Its name here is an HMAC,
--   so the table reveals nobody.
-- * An entry has a key of its own, wrapped by its data subject's key. Deleting the subject's key erases all of the
--   subject's events, deleting one row erases one entry.
-- * Rows are only ever added or removed. A writer that was cut off and wakes up late can add a row that nobody uses,
--   never replace one that a committed entry needs: the first one wins, hence the wide primary key.

create table edict_keys.log (
  id integer generated always as identity primary key,
  origin text collate "C" not null unique
);

create table edict_keys.subject_key (
  id bigint generated always as identity primary key,
  tenant text collate "C" not null,
  name bytea not null check (octet_length(name) = 32),
  -- nonce(12) ‖ AES-256-GCM(key) ‖ tag(16) under the master key; null once the subject is erased.
  wrapped bytea check (octet_length(wrapped) = 60),
  unique (tenant, name)
);

create table edict_keys.payload_key (
  log_id integer not null, -- no foreign keys: they would cost look-ups for every row
  seq bigint not null check (seq >= 0),
  event_id uuid not null,
  subject_id bigint not null,
  -- nonce(12) ‖ AES-256-GCM(key) ‖ tag(16) under the subject's key.
  wrapped bytea not null check (octet_length(wrapped) = 60),
  primary key (log_id, seq, event_id, subject_id)
);

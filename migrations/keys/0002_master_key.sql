-- Which master key this store belongs to: an HMAC under it. With another key file the names of all subjects would be
-- others, and everything would seem to work until somebody wants to read; so the program compares before it starts.
create table edict_keys.master (
  only_row boolean primary key default true check (only_row),
  name bytea not null check (octet_length(name) = 32)
);

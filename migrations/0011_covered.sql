-- How far a stream was complete when its log's newest seal was written, and the size of the log with that seal.
--
-- A seal is the last entry of a checkpoint. Once a signed checkpoint has that size, every number up to `sealed_to` is an
-- entry that it covers, or is named by one: only then `covered_to` follows, and spools may give up what they hold. Both
-- are of the row itself, so that a mark that moves and a seal that is written meanwhile cannot be mixed up.
alter table edict.stream
  add column sealed_to edict.u64 not null default 0,
  add column sealed_size bigint not null default 0 check (sealed_size >= 0);

-- What erasing leaves behind: that nothing of somebody may ever be encrypted again.
--
-- * A subject is closed once an erasure was approved: no new keys, while the old ones still open what a checkpoint does
--   not cover yet. Then its key is destroyed (`wrapped` is null); the row stays, so that an event that comes again from
--   Kafka, or into a restored database, gets no key.
-- * Single entries are remembered by their event id for the same reason.
alter table edict_keys.subject_key add column closed boolean not null default false;

create table edict_keys.erased_event (
  tenant text collate "C" not null,
  event_id uuid not null,
  primary key (tenant, event_id)
);

-- What the search table needs so that every filter of the query API is an index in the order of the log.
--
-- * Every index is (log, value, seq): a page is read from one place of it, in order, whatever the value and however old
--   its rows are. An index without seq, or a plan that walks the log and filters, is slow for what was common long ago.
-- * Row-level security evaluates its own condition before any operator that is not leakproof, and then no index serves
--   that operator: neither the containment of arrays (GIN) nor arithmetic on a column. Hence indexes of the places of a
--   list (subscripts are leakproof) and a stored column in place of the expression `seq >> 14`.
-- * Lists have an index for each of their first four places, each of rows that have so many, and one of rows that have
--   more, which are few and are read in order.
-- * Events come nearly in the order of their time. `block` has 16,384 entries: the least and the greatest time of a block
--   are two probes, so a filter by time first finds the blocks, and then reads these, in order.
-- * Rows from before this migration have no chain. A verification names those whose events have one.
alter table edict.decision
  add column chain text[] collate "C" not null default '{}', -- the actors before the agent, oldest first
  add column block integer not null generated always as ((seq >> 14)::integer) stored;

drop index edict.decision_time;
create index decision_block on edict.decision (log_id, block, event_time_ms);
drop index edict.decision_denied;
create index decision_decision on edict.decision (log_id, decision, seq);
create index decision_action on edict.decision (log_id, action, seq);
create index decision_purpose on edict.decision (log_id, purpose, seq) where purpose is not null;

create index decision_reason_1 on edict.decision (log_id, (reasons[1]), seq) where reasons[1] is not null;
create index decision_reason_2 on edict.decision (log_id, (reasons[2]), seq) where reasons[2] is not null;
create index decision_reason_3 on edict.decision (log_id, (reasons[3]), seq) where reasons[3] is not null;
create index decision_reason_4 on edict.decision (log_id, (reasons[4]), seq) where reasons[4] is not null;
create index decision_reasons_more on edict.decision (log_id, seq) where reasons[5] is not null;

create index decision_chain_1 on edict.decision (log_id, (chain[1]), seq) where chain[1] is not null;
create index decision_chain_2 on edict.decision (log_id, (chain[2]), seq) where chain[2] is not null;
create index decision_chain_3 on edict.decision (log_id, (chain[3]), seq) where chain[3] is not null;
create index decision_chain_4 on edict.decision (log_id, (chain[4]), seq) where chain[4] is not null;
create index decision_chain_more on edict.decision (log_id, seq) where chain[5] is not null;

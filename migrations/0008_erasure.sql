-- Erasure and retention: payloads that go, while headers and so every proof stay.
--
-- * `erasure` is the work in hand: who wants whom erased, who approved, how far it is. It proves nothing; what counts is
--   the entry of kind 5, which the verifier reads. Whom it concerned is removed from the row once it has ended.
-- * The payload of an entry is encrypted, so the database cannot read which segments a retention entry names. `retention`
--   says it again, written in the entry's transaction, and the functions below believe only that, the kind of the entry,
--   and a stored checkpoint that covers it.
-- * `retention_floor` is the owner's: `edict migrate` sets it from the settings. Whoever may drop cannot lower it.
-- * Payloads go oldest segment first, so that an entry which accounts for others never goes before them.
create table edict.erasure (
  id uuid primary key,
  tenant edict.tenant not null,
  state text not null check (state in ('pending', 'approved', 'entered', 'done', 'expired', 'withdrawn')),
  -- H of the reference under which the request lies with whoever handles requests.
  request edict.digest not null,
  legal_basis text not null check (octet_length(legal_basis) between 1 and 1000),
  subject jsonb,
  -- The key store's name of the subject; null where single entries are erased.
  key edict.digest,
  -- Single entries: [{log, seq, event_id}].
  entries jsonb not null default '[]',
  copies jsonb not null default '[]',
  requested_by text not null,
  requested_us bigint not null,
  expires_us bigint not null,
  -- [{by, us}], each another caller.
  approvals jsonb not null default '[]',
  authenticated boolean not null default true,
  log_id integer references edict.log,
  first_seq bigint,
  last_seq bigint,
  -- How many entries lose their payload.
  erased bigint,
  ended_us bigint,
  check ((state in ('entered', 'done')) = (log_id is not null)),
  constraint erasure_approved check (state not in ('approved', 'entered', 'done') or coalesce(
    jsonb_array_length(approvals) >= 2 and approvals -> 0 ->> 'by' <> approvals -> 1 ->> 'by', false)),
  check (num_nulls(log_id, first_seq, last_seq, erased) in (0, 4))
);
create index erasure_tenant on edict.erasure (tenant, requested_us);

-- Payloads of segments 0 to segments - 1 of `target_log` may go, says the retention entry `seq` of `log_id`.
create table edict.retention (
  log_id integer not null references edict.log,
  seq bigint not null,
  target_log integer not null references edict.log,
  segments integer not null check (segments >= 1),
  primary key (log_id, seq, target_log)
);
alter table edict.dropped_segment add column retention_log integer;

create table edict.retention_floor (
  only_row boolean primary key default true check (only_row),
  days integer not null check (days >= 0)
);
insert into edict.retention_floor (days) values (183);

do $$
declare
  guarded text;
begin
  foreach guarded in array array['erasure', 'retention'] loop
    execute format('alter table edict.%I enable row level security', guarded);
    execute format('create policy service on edict.%I to edict_writer, edict_signer, edict_maintainer '
                   'using (true) with check (true)', guarded);
  end loop;
end
$$;
create trigger append_only before update or delete on edict.retention
  for each row execute function edict.refuse_change();
create trigger no_truncate before truncate on edict.retention
  for each statement execute function edict.refuse_change();
alter table edict.retention enable always trigger append_only;
alter table edict.retention enable always trigger no_truncate;

-- Raises unless the entry is one of these kinds and a stored checkpoint covers it; `p_log_id`: the log that it is about,
-- its own or an earlier one of the same tenant.
create function edict.require_covered(p_log_id integer, p_entry_log integer, p_entry_seq bigint, p_kinds integer[])
  returns void
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from edict.entry e
    join edict.log own on own.id = e.log_id
    join edict.log about on about.id = p_log_id and about.tenant = own.tenant and about.shard = own.shard
                        and about.incarnation <= own.incarnation
    where e.log_id = p_entry_log and e.segment = p_entry_seq >> 16 and e.seq = p_entry_seq
      and get_byte(e.header, 1) = any (p_kinds)
  ) then
    raise exception 'entry % of log % allows nothing to go from log %', p_entry_seq, p_entry_log, p_log_id
      using errcode = 'invalid_parameter_value';
  end if;
  if not exists (select from edict.checkpoint c where c.log_id = p_entry_log and c.size > p_entry_seq) then
    raise exception 'no checkpoint covers entry % of log % yet', p_entry_seq, p_entry_log
      using errcode = 'object_not_in_prerequisite_state';
  end if;
end
$$;

-- Removes search rows of `p_ranges`, [[from, to], ...] inclusive, that an erasure entry before names; how many.
create function edict.clean_search(p_log_id integer, p_ranges jsonb, p_entry_log integer, p_entry_seq bigint)
  returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  removed bigint;
begin
  perform edict.require_covered(p_log_id, p_entry_log, p_entry_seq, array[5]);
  if p_log_id = p_entry_log and exists (
    select from jsonb_array_elements(p_ranges) as r(range) where (r.range ->> 1)::bigint >= p_entry_seq
  ) then
    raise exception 'entry % of log % names only what is before it', p_entry_seq, p_entry_log
      using errcode = 'invalid_parameter_value';
  end if;
  delete from edict.decision d
  using (select (r.range ->> 0)::bigint as first, (r.range ->> 1)::bigint as last
         from jsonb_array_elements(p_ranges) as r(range)) w
  where d.log_id = p_log_id and d.seq between w.first and w.last;
  get diagnostics removed = row_count;
  return removed;
end
$$;

drop function edict.drop_payload_segment(integer, integer, bigint);

-- Drops the payloads of one segment with its search rows, when the retention entry `p_entry_seq` of `p_entry_log` names
-- it. Refuses what is not full, not named, not covered by a checkpoint, younger than the floor, or not the oldest.
-- False when it was dropped before.
create function edict.drop_payload_segment(p_log_id integer, p_segment integer, p_entry_log integer, p_entry_seq bigint)
  returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  first_seq bigint := p_segment::bigint << 16;
  past_end bigint := (p_segment::bigint + 1) << 16;
  floor_days integer;
  newest_us bigint;
begin
  -- Two at once take turns; the second finds what the first did.
  perform pg_advisory_xact_lock(7181004, p_log_id);
  if exists (select from edict.dropped_segment where log_id = p_log_id and segment = p_segment) then
    return false;
  end if;
  perform edict.require_covered(p_log_id, p_entry_log, p_entry_seq, array[6]);
  if p_segment < 0 or (p_log_id = p_entry_log and p_entry_seq < past_end) or not exists (
    select from edict.retention r
    where r.log_id = p_entry_log and r.seq = p_entry_seq and r.target_log = p_log_id and r.segments > p_segment
  ) then
    raise exception 'retention entry % of log % does not name segment % of log %', p_entry_seq, p_entry_log, p_segment,
      p_log_id using errcode = 'invalid_parameter_value';
  end if;
  if p_segment > 0 and not exists (
    select from edict.dropped_segment where log_id = p_log_id and segment = p_segment - 1
  ) then
    raise exception 'segment % of log % is not the oldest with payloads', p_segment, p_log_id
      using errcode = 'invalid_parameter_value';
  end if;
  if not exists (select from edict.log_head h where h.log_id = p_log_id and h.size >= past_end)
     and p_log_id = p_entry_log then
    raise exception 'segment % of log % is not full', p_segment, p_log_id using errcode = 'invalid_parameter_value';
  end if;
  select ('x' || encode(substr(e.header, 11, 8), 'hex'))::bit(64)::bigint into newest_us
  from edict.entry e where e.log_id = p_log_id and e.segment = p_segment order by e.seq desc limit 1;
  select f.days into strict floor_days from edict.retention_floor f;
  if newest_us is null
     or newest_us > (extract(epoch from clock_timestamp()) - floor_days::bigint * 86400) * 1000000 then
    raise exception 'segment % of log % is younger than % days', p_segment, p_log_id, floor_days
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  insert into edict.dropped_segment (log_id, segment, retention_seq, retention_log)
  values (p_log_id, p_segment, p_entry_seq, p_entry_log);
  delete from edict.decision where log_id = p_log_id and seq >= first_seq and seq < past_end;
  delete from edict.artifact_part where log_id = p_log_id and seq >= first_seq and seq < past_end;
  execute format('drop table edict.payload_l%s_s%s', p_log_id, p_segment);
  return true;
end
$$;

revoke all on function edict.require_covered(integer, integer, bigint, integer[]) from public;
revoke all on function edict.clean_search(integer, jsonb, integer, bigint) from public;
revoke all on function edict.drop_payload_segment(integer, integer, integer, bigint) from public;
grant execute on function edict.clean_search(integer, jsonb, integer, bigint) to edict_writer;
grant execute on function edict.drop_payload_segment(integer, integer, integer, bigint) to edict_maintainer;
-- Search rows go only through the functions above.
revoke delete on edict.decision from edict_maintainer;
grant select, insert on edict.erasure to edict_writer;
grant update (state, subject, approvals, authenticated, log_id, first_seq, last_seq, erased, ended_us) on edict.erasure
  to edict_writer;
grant select, insert on edict.retention to edict_writer;
grant select on edict.retention_floor to edict_writer, edict_maintainer;
grant select on edict.retention to edict_maintainer;

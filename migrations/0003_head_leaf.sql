-- The head of a log names its last leaf: it changes with the size, never by itself.
create or replace function edict.refuse_rewind() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op <> 'UPDATE' then
    raise exception 'a log head cannot be removed: % refused', tg_op using errcode = 'insufficient_privilege';
  end if;
  if new.log_id <> old.log_id or new.size < old.size or new.last_ingest_us < old.last_ingest_us then
    raise exception 'the head of log % cannot go back', old.log_id using errcode = 'insufficient_privilege';
  end if;
  if new.size = old.size and new.leaf <> old.leaf then
    raise exception 'the last leaf of log % cannot be replaced', old.log_id using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;

-- Never used: what a stream names as its last event stands in `received`.
alter table edict.stream drop column highest_digest;

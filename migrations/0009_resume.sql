-- A log that a newer incarnation continues is closed for ever, and a database that was restored from an older copy goes
-- on in a new incarnation.
--
-- * Its head cannot move, and its partitions take no row: the trigger stands on them alone, so an open log pays nothing.
--   Whatever inserts the newer row of `edict.log` closes the older log, also a replay of the embedded journal.
-- * `kept_size`: how many entries of the log before, as it lies in this database, belong to what the new one continues.
--   Less than its size after a restore; null in logs from before this migration (all of it), and where no log before
--   lies in this database.
-- * `signer_alarm.note`: the largest checkpoint that the signer signed, as it has it outside the database. It carries its
--   own signature, so it may lie in the database that lost it.

alter table edict.log add column kept_size bigint check (kept_size >= 0);
alter table edict.signer_alarm add column note bytea check (octet_length(note) between 1 and 65536);

create function edict.refuse_closed() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'log % is closed: a newer incarnation continues it', new.log_id
    using errcode = 'insufficient_privilege';
end
$$;

create function edict.close_log(p_log_id integer) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  part text;
begin
  foreach part in array array[format('edict.entry_l%s', p_log_id), format('edict.payload_l%s', p_log_id)] loop
    continue when to_regclass(part) is null or exists (
      select from pg_trigger t where t.tgrelid = to_regclass(part) and t.tgname = 'closed');
    execute format('create trigger closed before insert on %s for each row execute function edict.refuse_closed()', part);
    execute format('alter table %s enable always trigger closed', part);
  end loop;
end
$$;

create function edict.close_earlier() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform edict.close_log(l.id) from edict.log l
  where l.tenant = new.tenant and l.shard = new.shard and l.incarnation < new.incarnation;
  return null;
end
$$;

create trigger close_earlier after insert on edict.log for each row execute function edict.close_earlier();
alter table edict.log enable always trigger close_earlier;

create function edict.refuse_closed_head() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from edict.log l join edict.log n
               on n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation
             where l.id = old.log_id) then
    raise exception 'log % is closed: a newer incarnation continues it', old.log_id
      using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;

create trigger closed before update on edict.log_head
  for each row execute function edict.refuse_closed_head();
alter table edict.log_head enable always trigger closed;

select edict.close_log(l.id) from edict.log l
where exists (select from edict.log n
              where n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation);

revoke all on function edict.refuse_closed(), edict.refuse_closed_head(), edict.close_log(integer), edict.close_earlier() from public;

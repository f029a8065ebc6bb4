import type { VerdictName } from '../core/verify-report.ts';

/**
 * The log that is attacked: of entries without a hole, two checkpoints, each of which ends with a seal; its first segment.
 */
export interface AttackedLog {
  readonly logId: number;
  /** A decision with a neighbour on either side that is one as well. */
  readonly victim: bigint;
  readonly size: bigint;
  /** Sizes of the checkpoints; the second is the size. */
  readonly signed: readonly [bigint, bigint];
}

export interface Attack {
  /** Short and stable, for reports. */
  readonly name: string;
  /** The row of the table of attacks that it belongs to. */
  readonly row: string;
  /** What is done as a superuser, with triggers and checks off. */
  readonly sql: (log: AttackedLog) => string;
  /** Every verdict that must be red; no other may be. */
  readonly red: readonly VerdictName[];
  /** The auditor's own memory of the log, from before, is at hand: size and last leaf. */
  readonly isRemembered?: boolean;
  /** Payload keys must lie in a table. */
  readonly needsKeyTable?: boolean;
}

/** What a superuser does first: no trigger and no check is left. */
export const disarm = ({ logId }: AttackedLog): string => `
  alter table edict.entry_l${logId}_s0 disable trigger all;
  alter table edict.payload_l${logId}_s0 disable trigger all;
  alter table edict.log_head disable trigger all;
  alter table edict.log disable trigger all;
  alter table edict.checkpoint disable trigger all;
  alter table edict.entry drop constraint entry_leaf;
  alter table edict.entry drop constraint entry_position;
`;

const of = ({ logId }: AttackedLog): string => `log_id = ${logId}`;
const at = (log: AttackedLog, seq = log.victim): string => `${of(log)} and seq = ${seq}`;
const flip = (column: string, byte: number): string =>
  `set ${column} = set_byte(${column}, ${byte}, get_byte(${column}, ${byte}) # 1)`;

const swap = (log: AttackedLog, table: 'entry' | 'payload'): string => `
  update edict.${table} set seq = 60003 where ${at(log)};
  update edict.${table} set seq = ${log.victim} where ${at(log, log.victim + 1n)};
  update edict.${table} set seq = ${log.victim + 1n} where ${at(log, 60003n)}`;

/** A byte of the policy set digest: it stands before the last 64 bytes, whatever the topic is. */
const flipHeader = (log: AttackedLog): string =>
  `update edict.entry set header = set_byte(header, length(header) - 70, get_byte(header, length(header) - 70) # 1)
   where ${at(log)}`;

/** Entries and payloads behind the first checkpoint, and the head with them. */
const cut = (log: AttackedLog): string => `
  delete from edict.entry where ${of(log)} and seq >= ${log.signed[0]};
  delete from edict.payload where ${of(log)} and seq >= ${log.signed[0]};
  update edict.log_head set size = ${log.signed[0]},
    leaf = (select leaf from edict.entry where ${at(log, log.signed[0] - 1n)}) where ${of(log)}`;

/** The victim with another ingest time, in its search row too, and every hash after it. */
const rewrite = (log: AttackedLog): string => `
  do $$
  declare
    before bytea;
    bytes bytea;
    r record;
  begin
    for r in select seq, header from edict.entry where ${of(log)} and seq >= ${log.victim} order by seq loop
      bytes := r.header;
      if before is null then
        bytes := set_byte(bytes, 17, get_byte(bytes, 17) # 1);
        update edict.decision set ingest_us = ('x' || encode(substr(bytes, 11, 8), 'hex'))::bit(64)::bigint
          where ${of(log)} and seq = r.seq;
      else
        bytes := substr(bytes, 1, length(bytes) - 32) || before;
      end if;
      before := sha256('\\x00'::bytea || bytes);
      update edict.entry set header = bytes, leaf = before where ${of(log)} and seq = r.seq;
    end loop;
    update edict.log_head set leaf = before where ${of(log)};
  end $$`;

export const ATTACKS: readonly Attack[] = [
  {
    name: 'payload-byte',
    row: 'Edit payload or header bytes',
    sql: (log) => `update edict.payload ${flip('ciphertext', 80)} where ${at(log)}`,
    red: ['integrity'],
  },
  {
    name: 'header-byte',
    row: 'Edit payload or header bytes',
    sql: flipHeader,
    red: ['append_only', 'integrity'],
  },
  {
    name: 'header-with-its-leaf',
    row: 'Edit payload or header bytes',
    sql: (log) => `${flipHeader(log)};
      update edict.entry set leaf = sha256('\\x00'::bytea || header) where ${at(log)}`,
    red: ['append_only', 'integrity'],
  },
  {
    name: 'stored-leaf',
    row: 'Edit payload or header bytes',
    sql: (log) => `update edict.entry ${flip('leaf', 0)} where ${at(log)}`,
    red: ['integrity'],
  },
  {
    name: 'search-decision',
    row: 'Edit an index column only',
    sql: (log) =>
      `update edict.decision set decision = case decision when 'allow' then 'deny' else 'allow' end where ${at(log)}`,
    red: ['projection'],
  },
  {
    name: 'search-pseudonym',
    row: 'Edit an index column only',
    sql: (log) => `update edict.decision ${flip('subject', 5)} where ${at(log)}`,
    red: ['projection'],
  },
  {
    name: 'search-row-hidden',
    row: 'Server hides matches of a query',
    sql: (log) => `delete from edict.decision where ${at(log)}`,
    red: ['projection'],
  },
  {
    name: 'entry-removed',
    row: 'Delete a row in the middle',
    sql: (log) => `delete from edict.entry where ${at(log)}; delete from edict.payload where ${at(log)};
      delete from edict.decision where ${at(log)}; delete from edict.received where ${at(log)}`,
    red: ['append_only', 'integrity', 'projection', 'completeness'],
  },
  {
    name: 'payload-removed',
    row: 'Delete a row in the middle',
    sql: (log) => `delete from edict.payload where ${at(log)}`,
    red: ['lifecycle'],
  },
  {
    name: 'end-removed',
    row: 'Truncate the tail',
    sql: cut,
    red: ['append_only'],
  },
  {
    name: 'end-removed-with-its-checkpoint',
    row: 'Truncate the tail',
    sql: (log) =>
      `${cut(log)}; delete from edict.checkpoint where ${of(log)} and size = ${log.signed[1]}; delete from edict.verification`,
    red: ['append_only'],
    isRemembered: true,
  },
  {
    name: 'entries-swapped',
    row: 'Reorder rows',
    sql: (log) => swap(log, 'entry'),
    red: ['append_only', 'integrity'],
  },
  {
    name: 'payloads-swapped',
    row: 'Salt or key swap to "open" another payload',
    sql: (log) => swap(log, 'payload'),
    red: ['integrity'],
  },
  {
    name: 'history-rewritten',
    row: 'Whole-chain rewrite by DB superuser',
    sql: rewrite,
    red: ['append_only'],
  },
  {
    name: 'log-relabelled',
    row: 'Partition moved or relabelled',
    sql: ({ logId }) => `update edict.log set vkey = 'other' where id = ${logId}`,
    red: ['authenticity', 'integrity'],
  },
  {
    name: 'payload-key-removed',
    row: 'Illegal erasure dressed as GDPR',
    sql: (log) => `delete from edict_keys.payload_key where seq = ${log.victim} and event_id = (
      select event_id from edict.received where ${at(log)})`,
    red: ['lifecycle'],
    needsKeyTable: true,
  },
  {
    name: 'triggers-off-and-on',
    row: 'Trigger disabled, edited, re-enabled',
    sql: (log) => `update edict.payload ${flip('ciphertext', 70)} where ${at(log)};
      alter table edict.payload_l${log.logId}_s0 enable always trigger append_only`,
    red: ['integrity'],
  },
  {
    name: 'note-edited',
    row: 'Edit a checkpoint',
    sql: (log) => `update edict.checkpoint ${flip('note', 40)} where ${of(log)} and size = ${log.signed[0]}`,
    red: ['authenticity'],
  },
  {
    name: 'root-edited',
    row: 'Edit a checkpoint',
    sql: (log) => `update edict.checkpoint ${flip('root', 0)} where ${of(log)} and size = ${log.signed[1]}`,
    red: ['authenticity'],
  },
  {
    name: 'checkpoint-removed',
    row: 'Edit a checkpoint',
    sql: (log) => `delete from edict.checkpoint where ${of(log)} and size = ${log.signed[0]}`,
    red: ['append_only'],
  },
];

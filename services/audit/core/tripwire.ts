import { readWalMessage, type ChangedRelation, type KeyValue, type Lsn } from './wal-changes.ts';

/** What somebody did to a table of the ledger that no program does. */
export interface TripwireAlarm {
  /** Of the commit; of an interruption: the last place that was watched before it. */
  readonly lsn: Lsn;
  readonly xid?: bigint;
  /** Schema and table, a partition by its own name; empty for an interruption. */
  readonly relation: string;
  /** `update`, `delete`, `truncate`, `watch_interrupted`, or `more`: further tables of a transaction. */
  readonly operation: string;
  readonly rows: bigint;
  /** Primary keys of the first rows, `column=value`, as text. */
  readonly keys: readonly string[];
  /** Microseconds since 1970. */
  readonly committedUs?: bigint;
}

export interface WatchedCommit {
  readonly alarms: readonly TripwireAlarm[];
  /** Behind the commit: what may be acknowledged once the alarms are stored. */
  readonly end: Lsn;
}

const MAX_KEYS = 10;
/** Of one transaction; tables beyond them are counted together. */
const MAX_ALARMS = 100;

interface Gathered {
  readonly relation: string;
  readonly operation: string;
  rows: bigint;
  readonly keys: string[];
}

const keyText = (relation: ChangedRelation, key: readonly KeyValue[]): string =>
  key.map(({ column, value }) => `${relation.keyColumns[column] ?? column}=${value}`).join(' ');

/**
 * Reads the messages of one stream in order. A commit gives what its transaction did, one alarm for each table and
 * operation; whatever arrives is a violation, because the publications name nothing else.
 */
export const createChangeCollector = (): {
  readonly take: (message: Buffer) => WatchedCommit | undefined;
  /** True between the beginning of a transaction and its commit: nothing may be acknowledged then. */
  readonly isInTransaction: () => boolean;
} => {
  const relations = new Map<number, ChangedRelation>();
  let xid: bigint | undefined;
  let gathered = new Map<string, Gathered>();

  const gather = (relationId: number, operation: string, key?: readonly KeyValue[]): void => {
    const relation = relations.get(relationId);
    const name = relation?.name ?? `oid ${relationId}`;
    const known = gathered.get(`${operation} ${name}`);
    const isFull = known === undefined && gathered.size >= MAX_ALARMS;
    const group = isFull ? { relation: '', operation: 'more' } : { relation: name, operation };
    const id = `${group.operation} ${group.relation}`;
    const entry = gathered.get(id) ?? { ...group, rows: 0n, keys: [] };
    gathered.set(id, entry);
    entry.rows += key === undefined ? 0n : 1n;
    if (!isFull && relation !== undefined && key !== undefined && entry.keys.length < MAX_KEYS)
      entry.keys.push(keyText(relation, key));
  };

  return {
    isInTransaction: () => xid !== undefined,
    take(bytes) {
      const message = readWalMessage(bytes, relations);
      switch (message.kind) {
        case 'begin':
          ({ xid } = message);
          gathered = new Map();
          return undefined;
        case 'relation':
          relations.set(message.id, message.relation);
          return undefined;
        case 'insert':
        case 'update':
        case 'delete':
          gather(message.relationId, message.kind, message.key);
          return undefined;
        case 'truncate':
          for (const id of message.relationIds) gather(id, 'truncate');
          return undefined;
        case 'commit': {
          const { lsn, end, committedUs } = message;
          const seen = xid === undefined ? {} : { xid };
          xid = undefined;
          const alarms = [...gathered.values()].map((each) => ({ ...each, ...seen, lsn, committedUs }));
          gathered = new Map();
          return { alarms, end };
        }
        case 'other':
          return undefined;
        default:
          return message satisfies never;
      }
    },
  };
};

import { AppError } from '../../shared/contracts/errors.ts';

/*
 * What `pgoutput`, version 1, writes into a replication stream: PostgreSQL's "Logical Replication Message Formats" and
 * "Streaming Replication Protocol". Integers are big-endian, places in the write-ahead log (LSN) u64, strings end in a
 * zero byte.
 */

/** A place in the write-ahead log. */
export type Lsn = bigint;

/** As Postgres shows it: two halves in hex. */
export const formatLsn = (lsn: Lsn): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`;

/** Undefined for what is no LSN. */
export const parseLsn = (text: string): Lsn | undefined => {
  const [, high, low] = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text) ?? [];
  return high === undefined || low === undefined ? undefined : (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
};

export interface ChangedRelation {
  /** Schema and table. */
  readonly name: string;
  /** By the place of a column: its name where it belongs to the key, else undefined. */
  readonly keyColumns: readonly (string | undefined)[];
}

export type WalMessage =
  | { readonly kind: 'begin'; readonly xid: bigint }
  | { readonly kind: 'commit'; readonly lsn: Lsn; readonly end: Lsn; readonly committedUs: bigint }
  | { readonly kind: 'relation'; readonly id: number; readonly relation: ChangedRelation }
  | { readonly kind: 'insert' | 'update' | 'delete'; readonly relationId: number; readonly key: readonly KeyValue[] }
  | { readonly kind: 'truncate'; readonly relationIds: readonly number[] }
  | { readonly kind: 'other' };

/** A value of a key column, by the column's place. */
export interface KeyValue {
  readonly column: number;
  readonly value: string;
}

export type StreamMessage =
  | { readonly kind: 'data'; readonly message: Buffer }
  | { readonly kind: 'keepalive'; readonly end: Lsn; readonly wantsReply: boolean };

/** Microseconds between 1970 and 2000, where Postgres begins to count. */
const EPOCH_US = 946_684_800_000_000n;
/** A value's first 200 characters, none of them halved: half of one cannot be stored as text. */
const SHOWN_OF_VALUE = /^.{0,200}/su;

class Bytes {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  u8 = (): number => this.#bytes.readUInt8(this.#move(1));
  u16 = (): number => this.#bytes.readUInt16BE(this.#move(2));
  u32 = (): number => this.#bytes.readUInt32BE(this.#move(4));
  u64 = (): bigint => this.#bytes.readBigUInt64BE(this.#move(8));
  skip = (length: number): void => void this.#move(length);
  rest = (): Buffer => this.#bytes.subarray(this.#at);
  take = (length: number): Buffer => this.#bytes.subarray(this.#move(length), this.#at);

  text(): string {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end === -1) throw new RangeError('a string without an end');
    const text = this.#bytes.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return text;
  }

  #move(length: number): number {
    const from = this.#at;
    if (from + length > this.#bytes.length) throw new RangeError(`${length} bytes are missing`);
    this.#at += length;
    return from;
  }
}

/** Rejects what it cannot read with `database_unavailable`: the stream is begun anew. */
const reading = <T>(bytes: Buffer, read: (from: Bytes) => T): T => {
  try {
    return read(new Bytes(bytes));
  } catch (cause) {
    throw new AppError('database_unavailable', 'the replication stream holds what is no message', { cause });
  }
};

/** One CopyData message of a replication stream. */
export const readStreamMessage = (bytes: Buffer): StreamMessage =>
  reading(bytes, (from) => {
    const type = String.fromCharCode(from.u8());
    if (type === 'w') {
      from.skip(24);
      return { kind: 'data', message: from.rest() };
    }
    if (type !== 'k') throw new RangeError(`type ${type}`);
    const end = from.u64();
    from.skip(8);
    return { kind: 'keepalive', end, wantsReply: from.u8() === 1 };
  });

/** "Standby status update": everything before `lsn` was received and may be forgotten. */
export const statusUpdate = (lsn: Lsn, nowUs: bigint): Buffer => {
  const out = Buffer.alloc(34);
  out.write('r', 0, 'latin1');
  for (const at of [1, 9, 17]) out.writeBigUInt64BE(lsn, at);
  out.writeBigInt64BE(nowUs - EPOCH_US, 25);
  return out;
};

/** Values of the columns that are given as text; the key's are taken, others skipped unread. */
const readKey = (from: Bytes, relation: ChangedRelation | undefined): readonly KeyValue[] => {
  const key: KeyValue[] = [];
  const columns = from.u16();
  for (let column = 0; column < columns; column += 1) {
    const type = String.fromCharCode(from.u8());
    if (type !== 't' && type !== 'b') continue;
    const value = from.take(from.u32());
    if (relation?.keyColumns[column] === undefined) continue;
    const text = value.toString(type === 't' ? 'utf8' : 'hex');
    key.push({ column, value: SHOWN_OF_VALUE.exec(text)?.[0] ?? '' });
  }
  return key;
};

/** One message of `pgoutput`. `relations`: what earlier messages of this stream said of the tables. */
export const readWalMessage = (bytes: Buffer, relations: ReadonlyMap<number, ChangedRelation>): WalMessage =>
  reading(bytes, (from): WalMessage => {
    const type = String.fromCharCode(from.u8());
    switch (type) {
      case 'B':
        from.skip(16);
        return { kind: 'begin', xid: BigInt(from.u32()) };
      case 'C': {
        from.skip(1);
        return { kind: 'commit', lsn: from.u64(), end: from.u64(), committedUs: from.u64() + EPOCH_US };
      }
      case 'R': {
        const id = from.u32();
        const name = `${from.text()}.${from.text()}`;
        from.skip(1);
        const columns = Array.from({ length: from.u16() }, () => {
          const isKey = (from.u8() & 1) === 1;
          const column = from.text();
          from.skip(8);
          return isKey ? column : undefined;
        });
        return { kind: 'relation', id, relation: { name, keyColumns: columns } };
      }
      case 'I':
      case 'U':
      case 'D': {
        const relationId = from.u32();
        // The first tuple is the old key where the key was changed or the row removed, else the new row.
        from.skip(1);
        const kind = type === 'I' ? 'insert' : type === 'U' ? 'update' : 'delete';
        return { kind, relationId, key: readKey(from, relations.get(relationId)) };
      }
      case 'T': {
        const count = from.u32();
        from.skip(1);
        return { kind: 'truncate', relationIds: Array.from({ length: count }, () => from.u32()) };
      }
      default:
        // Types, origins, messages.
        return { kind: 'other' };
    }
  });

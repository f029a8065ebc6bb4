import type { Sql } from '../core/append.ts';
import type { Genesis } from '../core/entry.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { openPayloads } from '../core/query-reader.ts';
import type { NewCheckpoint, SignableLog, SigningStore } from '../core/signing.ts';

/** Ciphertext of one page, at most; a page has one row at least. */
const PAGE_BYTES = 4 * 1024 * 1024;
const PAGE_ROWS = 500n;
const MAX_TEXT = 500;

interface LogRow {
  readonly id: number;
  readonly tenant: string;
  readonly origin: string;
  readonly incarnation: number;
  readonly vkey: string;
  readonly previous_origin: string | null;
  readonly previous_size: bigint | null;
  readonly previous_root: Buffer | null;
  readonly size: bigint;
  readonly leaf: Buffer;
  readonly sealed: bigint;
  readonly checkpoint_size: bigint | null;
  readonly note: Buffer | null;
}

const genesisOf = ({ origin, vkey, ...row }: LogRow): Genesis => {
  const { previous_origin: previous, previous_size: size, previous_root: root } = row;
  return {
    origin,
    vkey,
    ...(previous === null || size === null || root === null ? {} : { previous: { origin: previous, size, root } }),
  };
};

/** An incarnation that another continues has ended: nobody appends a seal to it any more. */
const readSignableLogs = async (sql: Pick<Sql, 'query'>): Promise<readonly SignableLog[]> => {
  const rows = await sql.query<LogRow>(
    `select l.id, l.tenant::text as tenant, l.origin, l.incarnation, l.vkey, l.previous_origin, l.previous_size,
            l.previous_root, h.size, h.leaf, c.size as checkpoint_size, c.note,
            coalesce((select e.seq + 1 from edict.entry e where e.log_id = l.id and get_byte(e.header, 1) = 10
                      order by e.segment desc, e.seq desc limit 1), 0) as sealed
     from edict.log l join edict.log_head h on h.log_id = l.id
     left join lateral (select k.size, k.note from edict.checkpoint k where k.log_id = l.id
                        order by k.size desc limit 1) c on true
     where not exists (select from edict.log n
                       where n.tenant = l.tenant and n.shard = l.shard and n.incarnation > l.incarnation)
     order by l.id`,
    [],
  );
  return rows.map((row) => ({
    id: row.id,
    tenant: row.tenant,
    origin: row.origin,
    incarnation: row.incarnation,
    vkey: row.vkey,
    genesis: genesisOf(row),
    head: { size: row.size, leaf: row.leaf },
    sealedSize: row.sealed,
    ...(row.checkpoint_size === null || row.note === null
      ? {}
      : { checkpoint: { size: row.checkpoint_size, note: row.note } }),
  }));
};

interface EntryRow {
  readonly seq: bigint;
  readonly segment: number;
  readonly header: Buffer;
  readonly leaf: Buffer;
  readonly ciphertext: Buffer | null;
}

const readPage = (sql: Pick<Sql, 'query'>, logId: number, from: bigint, to: bigint): Promise<readonly EntryRow[]> =>
  sql.query<EntryRow>(
    `select w.seq, w.segment, w.header, w.leaf, w.ciphertext from (
       select e.seq, e.segment, e.header, e.leaf, p.ciphertext,
              sum(coalesce(octet_length(p.ciphertext), 0)) over (order by e.segment, e.seq)
                - coalesce(octet_length(p.ciphertext), 0) as bytes_before
       from edict.entry e
       left join edict.payload p on p.log_id = e.log_id and p.segment = e.segment and p.seq = e.seq
       where e.log_id = $1::int and e.segment between ($2::bigint >> 16)::int and ($3::bigint >> 16)::int
         and e.seq >= $2::bigint and e.seq < $3::bigint) w
     where w.bytes_before < $4::bigint order by w.segment, w.seq`,
    [logId, String(from), String(from + PAGE_ROWS < to ? from + PAGE_ROWS : to), String(PAGE_BYTES)],
  );

const insertCheckpoint = async (sql: Sql, logId: number, checkpoint: NewCheckpoint): Promise<void> => {
  const { size, root, note, nodes, signedUs } = checkpoint;
  if (nodes.length > 0)
    await sql.query(
      `insert into edict.tree_node (log_id, level, index, hash)
       select $1::int, u.level, u.index, substring($2::bytea from ((u.i - 1) * 32 + 1)::int for 32)
       from unnest($3::text::smallint[], $4::text::bigint[]) with ordinality as u(level, index, i)
       on conflict do nothing`,
      [
        logId,
        Buffer.concat(nodes.map(({ hash }) => hash)),
        `{${nodes.map(({ level }) => level).join(',')}}`,
        `{${nodes.map(({ index }) => String(index)).join(',')}}`,
      ],
    );
  await sql.query(
    `insert into edict.checkpoint (log_id, size, root, note, signed_us)
     values ($1::int, $2::bigint, $3::bytea, $4::bytea, $5::bigint) on conflict do nothing`,
    [logId, String(size), Buffer.from(root), Buffer.from(note), String(signedUs)],
  );
};

export interface SigningStoreOptions {
  readonly database: Pick<Sql, 'query'>;
  readonly keys: PayloadKeys;
  /** The signer's own, or the embedded ledger's. */
  readonly transaction: (work: (sql: Sql) => Promise<void>) => Promise<void>;
}

/** Checkpoints and the rows that they are made of. */
export const createSigningStore = (options: SigningStoreOptions): SigningStore => {
  const { database, keys, transaction } = options;
  return {
    logs: () => readSignableLogs(database),
    rows: async (log, from, to) => {
      const page = await readPage(database, log.id, from, to);
      const payloads = await openPayloads(keys, log, page);
      return page.map(({ seq, segment, header, leaf }, index) => ({
        seq,
        segment,
        header,
        leaf,
        payload: payloads[index] ?? { state: 'missing' },
      }));
    },
    store: (logId, checkpoint) => transaction((sql) => insertCheckpoint(sql, logId, checkpoint)),
    raise: (logId, { alarm, what, expected, actual, signedSize, raisedUs, note }) =>
      transaction(async (sql) => {
        await sql.query(
          `insert into edict.signer_alarm (log_id, alarm, signed_size, what, expected, actual, raised_us, note)
           values ($1::int, $2::text, $3::bigint, $4::text, $5::text, $6::text, $7::bigint, $8::bytea)
           on conflict do nothing`,
          [
            logId,
            alarm,
            String(signedSize),
            ...[what, expected, actual].map((text) => text.slice(0, MAX_TEXT)),
            String(raisedUs),
            note === undefined ? null : Buffer.from(note),
          ],
        );
      }),
  };
};

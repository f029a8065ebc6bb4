import { fromHex } from '../../shared/contracts/bytes.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import type { Sql } from '../core/append.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { openPayloads } from '../core/query-reader.ts';
import type { TreeNode } from '../core/signing.ts';
import type { Orphan, StoredCheckpoint, StoredEntry } from '../core/verify-input.ts';
import type { SearchColumns } from '../core/verify-search.ts';
import type { ReceivedRow } from '../core/verify-state.ts';

const PAGE_ROWS = 500n;
const MAX_ORPHANS = 100;
/** Where the event id stands in a header. */
const EVENT_ID = { from: 18, to: 34 } as const;

interface PageRow {
  readonly seq: bigint;
  readonly segment: number;
  readonly header: Buffer;
  readonly leaf: Buffer;
  readonly ciphertext: Buffer | null;
}

/** The rows from `from` up to `end`, in order: a narrow range, so that no plan reads more than it. */
const readPage = (sql: Pick<Sql, 'query'>, logId: number, from: bigint, end: bigint): Promise<readonly PageRow[]> =>
  sql.query<PageRow>(
    `select e.seq, e.segment, e.header, e.leaf, p.ciphertext
     from edict.entry e
     left join edict.payload p on p.log_id = e.log_id and p.segment = e.segment and p.seq = e.seq
     where e.log_id = $1::int and e.segment between ($2::bigint >> 16)::int and ($3::bigint >> 16)::int
       and e.seq >= $2::bigint and e.seq < $3::bigint
     order by e.segment, e.seq`,
    [logId, String(from), String(end)],
  );

/** Checkpoints of the sizes above `from`, to `to`: each ends with an entry of the page. */
export const readCheckpoints = (
  sql: Pick<Sql, 'query'>,
  logId: number,
  from: bigint,
  to: bigint,
): Promise<readonly StoredCheckpoint[]> =>
  sql.query(
    `select c.size, c.root, c.note from edict.checkpoint c
     where c.log_id = $1::int and c.size > $2::bigint and c.size <= $3::bigint`,
    [logId, String(from), String(to)],
  );

/** Hashes of tiles whose last entry is one of `from` to `to - 1`. */
const readNodes = (sql: Pick<Sql, 'query'>, logId: number, from: bigint, to: bigint): Promise<readonly TreeNode[]> =>
  sql.query(
    `select n.level, n.index, n.hash from generate_series(1, 7) as v(level)
     join edict.tree_node n on n.log_id = $1::int and n.level = v.level
       and n.index >= ($2::bigint >> (8 * v.level)) and n.index < ($3::bigint >> (8 * v.level))`,
    [logId, String(from), String(to)],
  );

/** Where the log goes on at or above `from`. */
const nextEntry = async (sql: Pick<Sql, 'query'>, logId: number, from: bigint): Promise<bigint | undefined> => {
  const [row] = await sql.query<{ seq: bigint }>(
    `select e.seq from edict.entry e
     where e.log_id = $1::int and e.segment >= ($2::bigint >> 16)::int and e.seq >= $2::bigint
     order by e.segment, e.seq limit 1`,
    [logId, String(from)],
  );
  return row?.seq;
};

/** A table's rows as one JSON text: a client takes them apart many times faster than columns. */
type Packed = { readonly packed: string };

const unpack = ([row]: readonly Packed[]): unknown => JSON.parse(row?.packed ?? '[]');

type SearchText = Readonly<Record<string, string | readonly string[] | null>> & {
  readonly seq: string;
  readonly event_time_ms: string;
  readonly ingest_us: string;
  readonly subject: string;
};

/** The page's search rows; one entry may have several where somebody dropped the primary key. */
const readSearch = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  from: bigint,
  to: bigint,
): Promise<readonly { readonly seq: bigint; readonly columns: SearchColumns }[]> => {
  const rows = await sql.query<Packed>(
    `select coalesce(json_agg(r), '[]')::text as packed from (
       select d.seq::text as seq, d.event_id, d.event_time_ms::text as event_time_ms, d.ingest_us::text as ingest_us,
              d.decision, d.reasons, encode(d.subject, 'hex') as subject, d.agent, d.chain, d.action, d.resource_type,
              d.resource, d.purpose, d.session_id, d.request_id, d.caller
       from edict.decision d
       where d.log_id = $1::int and d.seq between $2::bigint and $3::bigint order by d.seq) r`,
    [logId, String(from), String(to)],
  );
  return (unpack(rows) as readonly SearchText[]).map(({ seq, ...columns }) => ({
    seq: BigInt(seq),
    columns: {
      ...columns,
      event_time_ms: BigInt(columns.event_time_ms),
      ingest_us: BigInt(columns.ingest_us),
      subject: fromHex(columns.subject),
    },
  }));
};

type ReceivedText = readonly [
  id: string,
  digest: string,
  previous: string | null,
  emitter: string,
  boot: string,
  number: string,
  seq: string,
];

/**
 * The page's rows of received events, by the ids that its headers name. Joined, not compared with a list: a server without
 * statistics would compare every row with all of it.
 */
const readReceived = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  page: readonly PageRow[],
): Promise<ReadonlyMap<string, ReceivedRow>> => {
  const ids = page.flatMap(({ header }) => eventIdOf(header) ?? []);
  const rows = await sql.query<Packed>(
    `select coalesce(json_agg(json_build_array(r.event_id, encode(r.digest, 'hex'), encode(r.previous, 'hex'),
              r.emitter, r.boot::text, r.number::text, r.seq::text)), '[]')::text as packed
     from unnest($2::text::uuid[]) as w(event_id)
     join edict.received r on r.log_id = $1::int and r.event_id = w.event_id`,
    [logId, `{${ids.join(',')}}`],
  );
  return new Map(
    (unpack(rows) as readonly ReceivedText[]).map(([id, digest, previous, emitter, boot, number, seq]) => [
      id,
      {
        digest: fromHex(digest),
        previous: previous === null ? null : fromHex(previous),
        emitter,
        boot: BigInt(boot),
        number: BigInt(number),
        seq: BigInt(seq),
      },
    ]),
  );
};

/** Undefined for a header that is too short to be one; what else is wrong with it is the verifier's to say. */
const eventIdOf = (header: Uint8Array): string | undefined =>
  header.length < EVENT_ID.to ? undefined : bytesToUuid(header.subarray(EVENT_ID.from, EVENT_ID.to));

/**
 * Payload rows in the range of a page that no entry of the page owns. Pages are compared here, not joined there: a server
 * without statistics of new rows may compare every row with every entry.
 */
const readStrayPayloads = (
  sql: Pick<Sql, 'query'>,
  logId: number,
  from: bigint,
  to: bigint,
  seqs: readonly bigint[],
): Promise<readonly { readonly seq: bigint }[]> =>
  sql.query(
    `select p.seq from edict.payload p
     where p.log_id = $1::int and p.segment between ($2::bigint >> 16)::int and ($3::bigint >> 16)::int
       and p.seq between $2::bigint and $3::bigint and p.seq <> all ($4::text::bigint[])
     order by p.seq limit ${MAX_ORPHANS}`,
    [logId, String(from), String(to), `{${seqs.join(',')}}`],
  );

/** Search and payload rows at or above `from` that are newer than every entry, as of one statement. */
const readPastEnd = (sql: Pick<Sql, 'query'>, logId: number, from: bigint): Promise<readonly Orphan[]> =>
  sql.query<Orphan>(
    `with newest as (
       select coalesce((select e.seq from edict.entry e where e.log_id = $1::int
                        order by e.segment desc, e.seq desc limit 1), -1) as seq)
     (select 'search' as "table", d.seq from edict.decision d
      where d.log_id = $1::int and d.seq >= $2::bigint and d.seq > (select seq from newest)
      order by d.seq limit ${MAX_ORPHANS})
     union all
     (select 'payload', p.seq from edict.payload p
      where p.log_id = $1::int and p.segment >= ($2::bigint >> 16)::int and p.seq >= $2::bigint
        and p.seq > (select seq from newest)
      order by p.seq limit ${MAX_ORPHANS})`,
    [logId, String(from)],
  );

/** What is read of a log: rows in order, and those that belong to none. */
interface PageReader {
  readonly sql: Pick<Sql, 'query'>;
  readonly keys: PayloadKeys;
  readonly log: { readonly id: number; readonly tenant: string; readonly origin: string };
  readonly orphan: (table: Orphan['table'], seq: bigint) => void;
}

interface Page {
  readonly entries: readonly StoredEntry[];
  /** Where the page after it begins; undefined behind the last entry. */
  readonly next: bigint | undefined;
}

/** A hole wider than a page; what should have been there is the verifier's to say. */
const passHole = async ({ sql, log, orphan }: PageReader, from: bigint, to: bigint): Promise<Page> => {
  const beyond = await nextEntry(sql, log.id, to);
  for (const { seq } of await readSearch(sql, log.id, from, to - 1n)) orphan('search', seq);
  for (const { seq } of await readStrayPayloads(sql, log.id, from, to - 1n, [])) orphan('payload', seq);
  return { entries: [], next: beyond };
};

const readOnePage = async (reader: PageReader, from: bigint, to: bigint): Promise<Page> => {
  const { sql, keys, log, orphan } = reader;
  const page = await readPage(sql, log.id, from, to);
  if (page.length === 0) return passHole(reader, from, to);
  const seqs = page.map(({ seq }) => seq);
  const [search, payloads, received, checkpoints, nodes, strays] = await Promise.all([
    readSearch(sql, log.id, from, to - 1n),
    openPayloads(keys, log, page),
    readReceived(sql, log.id, page),
    readCheckpoints(sql, log.id, from, to),
    readNodes(sql, log.id, from, to),
    readStrayPayloads(sql, log.id, from, to - 1n, seqs),
  ]);
  const bySeq = new Map<bigint, SearchColumns[]>(seqs.map((seq) => [seq, []]));
  for (const { seq, columns } of search) {
    const rows = bySeq.get(seq);
    if (rows === undefined) orphan('search', seq);
    else rows.push(columns);
  }
  for (const { seq } of strays) orphan('payload', seq);
  const checkpointBySize = new Map(checkpoints.map((checkpoint) => [checkpoint.size, checkpoint]));
  const nodesBySize = new Map<bigint, TreeNode[]>();
  for (const node of nodes) {
    const size = (node.index + 1n) << BigInt(8 * node.level);
    nodesBySize.set(size, [...(nodesBySize.get(size) ?? []), node]);
  }
  const entries = page.map(({ seq, segment, header, leaf }, index): StoredEntry => {
    const event = received.get(eventIdOf(header) ?? '');
    const checkpoint = checkpointBySize.get(seq + 1n);
    const completed = nodesBySize.get(seq + 1n);
    return {
      seq,
      segment,
      header,
      leaf,
      payload: payloads[index] ?? { state: 'missing' },
      search: bySeq.get(seq) ?? [],
      ...(completed === undefined ? {} : { nodes: completed }),
      ...(checkpoint === undefined ? {} : { checkpoint }),
      ...(event === undefined ? {} : { received: event }),
    };
  });
  return { entries, next: to };
};

/**
 * Every row of a log from `from` to `end - 1`, with its payload opened where it opens; what belongs to none goes to
 * `orphans`. The page after the one that is handed out is being read meanwhile: the server works while this program does.
 */
export const readPages = async function* (
  sql: Pick<Sql, 'query'>,
  keys: PayloadKeys,
  log: { readonly id: number; readonly tenant: string; readonly origin: string },
  from: bigint,
  end: bigint,
  orphans: Orphan[],
): AsyncGenerator<readonly StoredEntry[]> {
  const orphan = (table: Orphan['table'], seq: bigint): void => {
    if (orphans.length < MAX_ORPHANS) orphans.push({ table, seq });
  };
  const reader = { sql, keys, log, orphan };
  const read = (first: bigint): Promise<Page> | undefined =>
    first < end ? readOnePage(reader, first, first + PAGE_ROWS < end ? first + PAGE_ROWS : end) : undefined;
  let reached = from;
  let coming = read(from);
  try {
    while (coming !== undefined) {
      const page = await coming;
      coming = undefined;
      if (page.next === undefined) break;
      reached = page.next;
      coming = read(page.next);
      // A failure is told by whoever waits for that page, not before.
      coming?.catch(() => undefined);
      yield page.entries;
    }
  } finally {
    // Whoever stops early leaves nothing running on the connection.
    await coming?.catch(() => undefined);
  }
  for (const { table, seq } of await readPastEnd(sql, log.id, reached)) orphan(table, seq);
};

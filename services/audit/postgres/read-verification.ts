import type { Ack } from '../../shared/contracts/ack.ts';
import { fromHex } from '../../shared/contracts/bytes.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { bytesToUuid, newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { Sql } from '../core/append.ts';
import { decodeEntry } from '../core/entry.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import type { NameSubject } from '../core/pseudonym.ts';
import { openPayloads } from '../core/query-reader.ts';
import { verifyLog } from '../core/verify.ts';
import type { TreeNode } from '../core/signing.ts';
import type { KnownSize, LogFacts, Orphan, StoredCheckpoint, StoredEntry } from '../core/verify-input.ts';
import type { VerificationReport } from '../core/verify-report.ts';
import { parseObject } from '../core/verify-event.ts';
import { carriedNumbers, type CarriedNumbers } from '../core/verify-numbers.ts';
import { searchColumns, type SearchColumns } from '../core/verify-search.ts';
import type { EmitterRow, ReceivedRow, StreamRow } from '../core/verify-state.ts';
import type { StreamClaim } from '../core/verify-streams.ts';
import type { VerifyTenant } from '../core/verify-tenant.ts';
import { insertReport, readReports } from './read-reports.ts';
import { SEARCH_COLUMNS } from './search.ts';

const PAGE_ROWS = 500n;
const MAX_ORPHANS = 100;

interface FactsRow {
  readonly id: number;
  readonly origin: string;
  readonly vkey: string;
  readonly previous_origin: string | null;
  readonly previous_size: bigint | null;
  readonly previous_root: Buffer | null;
  readonly kept_size: bigint | null;
  readonly size: bigint | null;
  readonly leaf: Buffer | null;
  readonly end: bigint;
  readonly checkpoint_size: bigint | null;
  readonly checkpoint_root: Buffer | null;
  readonly note: Buffer | null;
  readonly received: bigint;
  readonly streams: readonly {
    readonly emitter: string;
    readonly boot: string;
    readonly complete_to: string;
    readonly highest: string;
    readonly covered_to: string;
    readonly holes: readonly { readonly from: string; readonly to: string }[];
  }[];
}

/** Facts, head, the real end and the state of the ingest of each log, as of one snapshot. */
const readFacts = (sql: Pick<Sql, 'query'>, tenant: string): Promise<readonly FactsRow[]> =>
  sql.query<FactsRow>(
    `select l.id, l.origin, l.vkey, l.previous_origin, l.previous_size, l.previous_root, l.kept_size, h.size,
            h.leaf, c.size as checkpoint_size, c.root as checkpoint_root, c.note,
            coalesce((select e.seq + 1 from edict.entry e where e.log_id = l.id
                      order by e.segment desc, e.seq desc limit 1), 0) as "end",
            (select count(*) from edict.received r where r.log_id = l.id) as received,
            coalesce((select jsonb_agg(jsonb_build_object('emitter', s.emitter, 'boot', s.boot::text,
                        'complete_to', s.complete_to::text, 'highest', s.highest::text,
                        'covered_to', s.covered_to::text, 'holes', s.holes))
                      from edict.stream s where s.log_id = l.id), '[]') as streams
     from edict.log l left join edict.log_head h on h.log_id = l.id
     left join lateral (select k.size, k.root, k.note from edict.checkpoint k where k.log_id = l.id
                        order by k.size desc limit 1) c on true
     where l.tenant = $1 order by l.id desc`,
    [tenant],
  );

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
const readCheckpoints = (
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

/** The page's search rows; one entry may have several where somebody dropped the primary key. */
const readSearch = (
  sql: Pick<Sql, 'query'>,
  logId: number,
  from: bigint,
  to: bigint,
): Promise<readonly ({ readonly seq: bigint } & SearchColumns)[]> =>
  sql.query(
    `select d.seq, ${SEARCH_COLUMNS} from edict.decision d
     where d.log_id = $1::int and d.seq between $2::bigint and $3::bigint order by d.seq`,
    [logId, String(from), String(to)],
  );

interface ReceivedColumns extends ReceivedRow {
  readonly event_id: string;
}

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
  const rows = await sql.query<
    Omit<ReceivedColumns, 'boot' | 'number'> & { readonly boot: string; readonly number: string }
  >(
    `select r.event_id, r.digest, r.previous, r.emitter::text as emitter, r.boot::text as boot,
            r.number::text as number, r.seq
     from unnest($2::text::uuid[]) as w(event_id)
     join edict.received r on r.log_id = $1::int and r.event_id = w.event_id`,
    [logId, `{${ids.join(',')}}`],
  );
  return new Map(rows.map((row) => [row.event_id, { ...row, boot: BigInt(row.boot), number: BigInt(row.number) }]));
};

/** Undefined for a header that is none. */
const eventIdOf = (header: Uint8Array): string | undefined => {
  try {
    return bytesToUuid(decodeEntry(header).eventId);
  } catch {
    return undefined;
  }
};

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

/** Every row of a log below `end`, with its payload opened where it opens; what belongs to none goes to `orphans`. */
const readRows = async function* (
  sql: Pick<Sql, 'query'>,
  keys: PayloadKeys,
  log: { readonly id: number; readonly tenant: string; readonly origin: string },
  end: bigint,
  orphans: Orphan[],
): AsyncGenerator<StoredEntry> {
  const note = (table: Orphan['table'], seq: bigint): void => {
    if (orphans.length < MAX_ORPHANS) orphans.push({ table, seq });
  };
  let next = 0n;
  while (next < end) {
    const to = next + PAGE_ROWS < end ? next + PAGE_ROWS : end;
    const page = await readPage(sql, log.id, next, to);
    if (page.length === 0) {
      // A hole wider than a page; what should have been there is the verifier's to say.
      const beyond = await nextEntry(sql, log.id, to);
      for (const { seq } of await readSearch(sql, log.id, next, to - 1n)) note('search', seq);
      for (const { seq } of await readStrayPayloads(sql, log.id, next, to - 1n, [])) note('payload', seq);
      if (beyond === undefined) break;
      next = beyond;
      continue;
    }
    const [search, payloads, received, checkpoints, nodes, strays] = await Promise.all([
      readSearch(sql, log.id, next, to - 1n),
      openPayloads(keys, log, page),
      readReceived(sql, log.id, page),
      readCheckpoints(sql, log.id, next, to),
      readNodes(sql, log.id, next, to),
      readStrayPayloads(
        sql,
        log.id,
        next,
        to - 1n,
        page.map(({ seq }) => seq),
      ),
    ]);
    const bySeq = new Map<bigint, SearchColumns[]>(page.map(({ seq }) => [seq, []]));
    for (const { seq, ...columns } of search) {
      const rows = bySeq.get(seq);
      if (rows === undefined) note('search', seq);
      else rows.push(columns);
    }
    for (const { seq } of strays) note('payload', seq);
    for (const [index, { seq, segment, header, leaf }] of page.entries()) {
      const event = received.get(eventIdOf(header) ?? '');
      const checkpoint = checkpoints.find(({ size }) => size === seq + 1n);
      yield {
        seq,
        segment,
        header,
        leaf,
        payload: payloads[index] ?? { state: 'missing' },
        search: bySeq.get(seq) ?? [],
        nodes: nodes.filter((node) => (node.index + 1n) << BigInt(8 * node.level) === seq + 1n),
        ...(checkpoint === undefined ? {} : { checkpoint }),
        ...(event === undefined ? {} : { received: event }),
      };
    }
    next = to;
  }
  for (const { table, seq } of await readPastEnd(sql, log.id, next)) note(table, seq);
};

/** What the first entry of a log says that it goes on from; nothing when it cannot be read. */
const readCarried = async (
  sql: Pick<Sql, 'query'>,
  keys: PayloadKeys,
  log: { readonly id: number; readonly tenant: string; readonly origin: string },
): Promise<readonly CarriedNumbers[]> => {
  const [payload] = await openPayloads(keys, log, await readPage(sql, log.id, 0n, 1n));
  return payload?.state === 'opened' ? carriedNumbers(parseObject(payload.payload) ?? {}) : [];
};

const newestOf = ({ checkpoint_size: size, checkpoint_root: root, note }: FactsRow) =>
  size === null || root === null || note === null ? {} : { newest: { size, root, note } };

const readClaims = async (sql: Pick<Sql, 'query'>, logId: number): Promise<readonly StreamClaim[]> => {
  // What a row of received events stands for is an entry; what a stream's `highest` also counts may only be announced.
  const rows = await sql.query<{ emitter: string; boot: string; highest: string }>(
    `select emitter::text as emitter, boot::text as boot, max(number)::text as highest
     from edict.received where log_id = $1::int group by emitter, boot`,
    [logId],
  );
  return rows.map(({ emitter, boot, highest }) => ({
    source: 'the table of received events',
    emitter,
    boot: BigInt(boot),
    highest: BigInt(highest),
  }));
};

const readEmitters = (sql: Pick<Sql, 'query'>): Promise<readonly EmitterRow[]> =>
  sql.query<EmitterRow>(
    'select emitter::text as emitter, public_key as "publicKey", attested, retired from edict.emitter',
    [],
  );

const keysOf = (emitters: readonly EmitterRow[]): ReadonlyMap<string, Uint8Array> =>
  new Map(emitters.flatMap(({ emitter, publicKey: key }) => (key === null ? [] : [[emitter, key] as const])));

const streamRows = ({ streams }: FactsRow): readonly StreamRow[] =>
  streams.map(({ emitter, boot, complete_to: complete, highest, covered_to: covered, holes }) => ({
    emitter,
    boot: BigInt(boot),
    completeTo: BigInt(complete),
    highest: BigInt(highest),
    coveredTo: BigInt(covered),
    holes: holes.map(({ from, to }) => ({ from: BigInt(from), to: BigInt(to) })),
  }));

const claimsOfAcks = (acks: readonly Ack[], origin: string): readonly StreamClaim[] =>
  acks
    .filter((ack) => ack.origin === origin)
    .map(({ emitter, boot, complete_to: highest }) => ({
      source: 'a signed acknowledgement',
      emitter,
      boot: BigInt(boot),
      highest: BigInt(highest),
    }));

const sizesOfAcks = (acks: readonly Ack[], origin: string): readonly KnownSize[] => {
  const sizes = acks.filter((ack) => ack.origin === origin).map(({ tree_size: size }) => BigInt(size));
  if (sizes.length === 0) return [];
  const size = sizes.reduce((a, b) => (a > b ? a : b));
  return [{ source: 'a signed acknowledgement', size, isOutside: true }];
};

export interface VerifierOptions {
  /** Reads everything of the tenant's logs. */
  readonly database: Pick<Sql, 'query'>;
  /** Keeps the reports; the writer's. */
  readonly reports: Pick<Sql, 'query'>;
  readonly keys: PayloadKeys;
  readonly nameForSearch: NameSubject;
  readonly graceMs: number;
  readonly now?: () => number;
  /** Acknowledgements whose signatures were checked, from where they are kept: home or Kafka. */
  readonly acks?: (tenant: string) => Promise<readonly Ack[]>;
}

/**
 * Verifies every log of a tenant, newest incarnation first, and keeps the reports. Reads in pages while the ledger
 * grows: what it says is as of the size that the log had when it began. Empty when the tenant has no ledger.
 */
export const createVerifier = (options: VerifierOptions): VerifyTenant => {
  const { database, reports, keys, nameForSearch, graceMs, now = Date.now } = options;
  return async (tenant, { remembered = [], onProgress }) => {
    const acks = (await options.acks?.(tenant)) ?? [];
    const earlier = await readReports(database, tenant);
    const before = await readEmitters(database);
    const claims = new Map<number, readonly StreamClaim[]>();
    // Claims before facts: what is received in between must not look like something that is missing.
    for (const { id } of await readFacts(database, tenant)) claims.set(id, await readClaims(database, id));
    const logs = await readFacts(database, tenant);
    const emitters = await readEmitters(database);
    const total = logs.reduce((sum, { end }) => sum + end, 0n);
    const out: VerificationReport[] = [];
    let done = 0n;
    for (const row of logs) {
      const { id, origin, vkey, end, previous_origin: previous, previous_size: size, previous_root: root } = row;
      const log: LogFacts = {
        tenant,
        origin,
        vkey,
        ...(previous === null || size === null || root === null ? {} : { previous: { origin: previous, size, root } }),
      };
      const known: readonly KnownSize[] = [
        ...sizesOfAcks(acks, origin),
        ...remembered
          .filter((fact) => fact.origin === origin)
          .map((fact) => ({ source: 'the auditor', size: fact.size, leaf: fact.leaf, isOutside: true })),
        ...earlier.flatMap((report) =>
          report.origin === origin && report.lastLeaf !== null && /^\d{1,18}$/.test(report.size)
            ? [
                {
                  source: `the report of ${report.endedAt}`,
                  size: BigInt(report.size),
                  leaf: fromHex(report.lastLeaf),
                  isOutside: false,
                },
              ]
            : [],
        ),
      ];
      const orphans: Orphan[] = [];
      const next = logs.find((other) => other.previous_origin === origin);
      const report = await verifyLog({
        log,
        ...(next === undefined || next.previous_size === null || next.previous_root === null
          ? {}
          : {
              continued: {
                by: next.origin,
                size: next.previous_size,
                root: next.previous_root,
                ...(next.kept_size === null ? {} : { kept: next.kept_size }),
                streams: await readCarried(database, keys, { id: next.id, tenant, origin: next.origin }),
              },
            }),
        ...newestOf(row),
        head: { size: row.size ?? 0n, leaf: row.leaf ?? new Uint8Array(32) },
        rows: readRows(database, keys, { id, tenant, origin }, end, orphans),
        orphans: () => orphans,
        claims: [...(claims.get(id) ?? []), ...claimsOfAcks(acks, origin)],
        known,
        emitterKeys: keysOf(before),
        tables: {
          received: row.received,
          streams: streamRows(row),
          emitters,
          // An earlier or a later incarnation may have the entry.
          ...(tenant === SYSTEM_TENANT && logs.length === 1
            ? { retired: before.flatMap(({ emitter, retired }) => (retired ? emitter : [])) }
            : {}),
        },
        expectedSearch: (entry, event) => searchColumns(nameForSearch, tenant, entry, event),
        now,
        graceMs,
        ...(onProgress === undefined ? {} : { onProgress: (seq) => onProgress(done + seq, total) }),
      });
      done += end;
      await insertReport(reports, newUuidV7(now()), id, report);
      out.push(report);
    }
    return out;
  };
};

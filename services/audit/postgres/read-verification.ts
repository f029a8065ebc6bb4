import type { Ack } from '../../shared/contracts/ack.ts';
import { fromHex } from '../../shared/contracts/bytes.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { Sql } from '../core/append.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import type { NameSubject } from '../core/pseudonym.ts';
import { verifyLog } from '../core/verify.ts';
import type { NamedElsewhere } from '../core/verify-gone.ts';
import { openPlace, sealPlace, type SealedPlace } from '../core/verify-place.ts';
import type { KnownSize, LogFacts, Orphan, VerifyInput } from '../core/verify-input.ts';
import { hasFailed, type VerificationReport } from '../core/verify-report.ts';
import { parseObject } from '../core/verify-event.ts';
import { carriedNumbers, type CarriedNumbers } from '../core/verify-numbers.ts';
import { searchColumns } from '../core/verify-search.ts';
import type { EmitterRow, StreamRow } from '../core/verify-state.ts';
import type { StreamClaim } from '../core/verify-streams.ts';
import type { VerifyTenant } from '../core/verify-tenant.ts';
import { readGoneSince, type GoneSince } from './read-gone.ts';
import { insertReport, readReports } from './read-reports.ts';
import { readCheckpoints, readPages } from './read-verification-pages.ts';

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

/** What the first entry of a log says that it goes on from; nothing when it cannot be read. */
const readCarried = async (
  sql: Pick<Sql, 'query'>,
  keys: PayloadKeys,
  log: { readonly id: number; readonly tenant: string; readonly origin: string },
): Promise<readonly CarriedNumbers[]> => {
  for await (const [first] of readPages(sql, keys, log, 0n, 1n, []))
    if (first?.payload.state === 'opened') return carriedNumbers(parseObject(first.payload.payload) ?? {});
  return [];
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
  /** 32 bytes: by which this service knows the places that it gave away. */
  readonly placeKey: Uint8Array;
  readonly now?: () => number;
  /** Acknowledgements whose signatures were checked, from where they are kept: home or Kafka. */
  readonly acks?: (tenant: string) => Promise<readonly Ack[]>;
}

/** Where to go on; undefined when this service did not make the place, or the log is shorter now. */
const placeIn = async (
  sql: Pick<Sql, 'query'>,
  placeKey: Uint8Array,
  log: { readonly id: number; readonly tenant: string; readonly end: bigint },
  sealed: SealedPlace,
): Promise<VerifyInput['from']> => {
  const place = openPlace(placeKey, { tenant: log.tenant, origin: sealed.origin }, sealed);
  if (place === undefined || place.tree.size > log.end) return undefined;
  const [checkpoint] = await readCheckpoints(sql, log.id, place.tree.size - 1n, place.tree.size);
  return { place, verifiedAt: sealed.verifiedAt, checkpoint };
};

/**
 * Verifies every log of a tenant, newest incarnation first, and keeps the reports. Reads in pages while the ledger
 * grows: what it says is as of the size that the log had when it began. Empty when the tenant has no ledger.
 */
export const createVerifier = (options: VerifierOptions): VerifyTenant => {
  const { database, reports, keys, nameForSearch, graceMs, placeKey, now = Date.now } = options;
  return async (tenant, { remembered = [], window, places = [], onPlace, onProgress }) => {
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
    const goneOfEarlier = new Map<string, NamedElsewhere[]>();
    /** What came into the newest log since it was verified: it speaks for earlier ones too. */
    let newest: (() => Promise<GoneSince>) | undefined;
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
        ...places
          .filter((place) => place.origin === origin && /^[1-9]\d{0,17}$/.test(place.size))
          .map(({ size: verified }) => ({ source: 'the auditor', size: BigInt(verified), isOutside: true })),
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
      const sealed = window === undefined ? places.find((place) => place.origin === origin) : undefined;
      // What failed since may lie before the place: everything is read until that has passed.
      const hasFailedSince = earlier.some(
        (report) => report.origin === origin && hasFailed(report) && report.endedAt >= (sealed?.verifiedAt ?? ''),
      );
      const from =
        sealed === undefined || hasFailedSince
          ? undefined
          : await placeIn(database, placeKey, { id, tenant, end }, sealed);
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
        pages: readPages(database, keys, { id, tenant, origin }, from?.place.tree.size ?? 0n, end, orphans),
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
        goneElsewhere: async (coveredSize) => {
          const since = await readGoneSince(database, keys, { id, tenant, origin, vkey }, coveredSize);
          const newer = await newest?.();
          newest ??= () => readGoneSince(database, keys, { id, tenant, origin, vkey }, coveredSize);
          return [...(goneOfEarlier.get(origin) ?? []), ...since.ofThis, ...(newer?.ofEarlier.get(origin) ?? [])];
        },
        onGoneOfEarlier: (gone) => {
          for (const [of, named] of gone) goneOfEarlier.set(of, [...(goneOfEarlier.get(of) ?? []), ...named]);
        },
        now,
        graceMs,
        ...(window === undefined ? {} : { window }),
        ...(from === undefined ? {} : { from }),
        ...(onPlace === undefined
          ? {}
          : {
              onPlace: (place) => {
                const made = sealPlace(placeKey, log, place, new Date(now()).toISOString());
                if (made !== undefined) onPlace(made);
              },
            }),
        ...(onProgress === undefined ? {} : { onProgress: (seq) => onProgress(done + seq, total) }),
      });
      done += end;
      await insertReport(reports, newUuidV7(now()), id, report);
      out.push(report);
    }
    return out;
  };
};

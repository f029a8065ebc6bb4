import { bytesEqual } from '../../shared/contracts/bytes.ts';
import type { Log, Sql } from '../core/append.ts';
import { commitPayload } from '../core/entry.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { entryOf, openPayloads } from '../core/query-reader.ts';
import { isOwnCheckpoint } from '../core/verify-checkpoints.ts';
import { parseObject } from '../core/verify-event.ts';
import { createGoneTracker, type NamedElsewhere } from '../core/verify-gone.ts';

interface EntryRow {
  readonly seq: bigint;
  readonly header: Buffer;
  readonly ciphertext: Buffer | null;
}

/** Read at once. */
const MAX_ENTRIES = 1_000;

/** What entries of a log that were not verified say of payloads. */
export interface GoneSince {
  readonly ofThis: readonly NamedElsewhere[];
  /** Of earlier logs, by origin. */
  readonly ofEarlier: ReadonlyMap<string, readonly NamedElsewhere[]>;
}

const NOTHING: GoneSince = { ofThis: [], ofEarlier: new Map() };

/**
 * What erasure and retention entries from `from` on name, as far as a checkpoint covers them now: a ledger goes on while
 * it is verified, and payloads with it. None of it is proven: the tree of that checkpoint was not computed.
 */
export const readGoneSince = async (
  sql: Pick<Sql, 'query'>,
  keys: PayloadKeys,
  log: Log & { readonly vkey: string },
  from: bigint,
): Promise<GoneSince> => {
  const [newest] = await sql.query<{ size: bigint; note: Buffer }>(
    'select size, note from edict.checkpoint where log_id = $1::int order by size desc limit 1',
    [log.id],
  );
  if (newest === undefined || !isOwnCheckpoint({ ...newest, vkey: log.vkey })) return NOTHING;
  const tracker = createGoneTracker();
  for (let next: bigint | undefined = from; next !== undefined && next < newest.size;) {
    const rows: readonly EntryRow[] = await sql.query<EntryRow>(
      `select e.seq, e.header, p.ciphertext from edict.entry e
       left join edict.payload p on p.log_id = e.log_id and p.segment = e.segment and p.seq = e.seq
       where e.log_id = $1::int and e.segment >= ${next >> 16n} and e.seq >= $2::bigint and e.seq < $3::bigint
         and get_byte(e.header, 1) in (5, 6)
       order by e.segment, e.seq limit ${MAX_ENTRIES}`,
      [log.id, String(next), String(newest.size)],
    );
    for (const [index, payload] of (await openPayloads(keys, log, rows)).entries()) {
      const entry = entryOf(rows[index]?.header);
      if (entry === undefined || payload.state !== 'opened') continue;
      const { salt, contentType, payload: bytes } = payload;
      if (bytesEqual(commitPayload(salt, contentType, bytes), entry.commitment))
        tracker.named(entry, parseObject(bytes) ?? {});
    }
    const last = rows.at(-1);
    next = last === undefined || rows.length < MAX_ENTRIES ? undefined : last.seq + 1n;
  }
  return {
    ofThis: [{ ranges: tracker.ofThis(newest.size), isProven: false }],
    ofEarlier: new Map(
      [...tracker.ofEarlier(newest.size)].map(([origin, named]) => [
        origin,
        named.map((each) => ({ ...each, isProven: false })),
      ]),
    ),
  };
};

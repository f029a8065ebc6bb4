import type { PublishedLog } from '../../shared/tlog/tiles.ts';
import type { Sql } from '../core/append.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { entryOf, openPayloads, type RangeEntry, type RangeReader } from '../core/query-reader.ts';
import { MAX_ROWS, readCiphertexts, readHeaders, slices } from './read-rows.ts';

const CHECKPOINT = 'select c.log_id as id, c.size, c.note from edict.checkpoint c where c.log_id = $1::int';

/** Notes of the checkpoints of the sizes above `from`, to `to`. */
const readNotes = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  from: bigint,
  to: bigint,
): Promise<ReadonlyMap<bigint, Uint8Array>> => {
  const rows = await sql.query<PublishedLog>(`${CHECKPOINT} and c.size > $2::bigint and c.size <= $3::bigint`, [
    logId,
    String(from),
    String(to),
  ]);
  return new Map(rows.map(({ size, note }) => [size, note]));
};

/** Reads all entries of logs, in order. */
export const createRangeReader = (options: {
  readonly database: Pick<Sql, 'query'>;
  readonly keys: PayloadKeys;
}): RangeReader => {
  const { database, keys } = options;

  const ingestUs = async (logId: number, seq: bigint): Promise<bigint | undefined> => {
    const [row] = await readHeaders(database, logId, [seq]);
    return entryOf(row?.header)?.ingestUs;
  };

  const page = async function* (
    log: Parameters<RangeReader['entries']>[0],
    from: bigint,
    to: bigint,
  ): AsyncGenerator<RangeEntry> {
    const seqs = Array.from({ length: Number(to - from) }, (_, index) => from + BigInt(index));
    const headers = [...(await readHeaders(database, log.id, seqs))].sort((a, b) => Number(a.seq - b.seq));
    const notes = await readNotes(database, log.id, from, to);
    for (const slice of slices(headers.map((row) => ({ ...row, bytes: row.bytes ?? 0 })))) {
      const ciphertexts = await readCiphertexts(
        database,
        log.id,
        slice.map(({ seq }) => seq),
      );
      const payloads = await openPayloads(
        keys,
        log,
        slice.map(({ seq, header }) => ({ seq, header, ciphertext: ciphertexts.get(seq) ?? null })),
      );
      for (const [index, { seq, header }] of slice.entries()) {
        const checkpoint = notes.get(seq + 1n);
        yield {
          seq,
          header,
          payload: payloads[index] ?? { state: 'missing' },
          ...(checkpoint === undefined ? {} : { checkpoint }),
        };
      }
    }
  };

  const checkpoint = async (logId: number, condition: string, size: bigint): Promise<PublishedLog | undefined> => {
    const [row] = await database.query<PublishedLog>(`${CHECKPOINT} and ${condition} limit 1`, [logId, String(size)]);
    return row;
  };

  return {
    // Some twenty rows by their keys: no index orders entries by time, and none is needed.
    firstSince: async (logId, us, size) => {
      let [low, high] = [0n, size];
      while (low < high) {
        const middle = (low + high) / 2n;
        const at = await ingestUs(logId, middle);
        if (at !== undefined && at < us) low = middle + 1n;
        else high = middle;
      }
      return low;
    },
    checkpointUpTo: (logId, size) => checkpoint(logId, 'c.size <= $2::bigint order by c.size desc', size),
    checkpointFrom: (logId, size) => checkpoint(logId, 'c.size >= $2::bigint order by c.size', size),
    entries: async function* (log, from, to) {
      for (let at = from; at < to; at += BigInt(MAX_ROWS)) {
        const end = at + BigInt(MAX_ROWS);
        yield* page(log, at, end < to ? end : to);
      }
    },
  };
};

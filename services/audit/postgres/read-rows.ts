import type { Sql } from '../core/append.ts';
import { segmentOf } from '../core/entry.ts';

/** Segments are numbers of ours and stand in the text: so only their partitions are planned, and none is scanned. */
const inSegments = (seqs: readonly bigint[]): string => `segment in (${[...new Set(seqs.map(segmentOf))].join(', ')})`;

const bigints = (values: readonly bigint[]): string => `{${values.join(',')}}`;

/** Headers of some entries of one log, and how many bytes their payloads have. */
export const readHeaders = (sql: Pick<Sql, 'query'>, logId: number, seqs: readonly bigint[]) =>
  sql.query<{ seq: bigint; header: Buffer; leaf: Buffer; bytes: number | null }>(
    `select e.seq, e.header, e.leaf, octet_length(p.ciphertext) as bytes
     from (select * from edict.entry where log_id = $1::int and ${inSegments(seqs)}
             and seq = any ($2::text::bigint[])) e
     left join (select * from edict.payload where log_id = $1::int and ${inSegments(seqs)}
             and seq = any ($2::text::bigint[])) p on p.seq = e.seq`,
    [logId, bigints(seqs)],
  );

export const readCiphertexts = async (
  sql: Pick<Sql, 'query'>,
  logId: number,
  seqs: readonly bigint[],
): Promise<ReadonlyMap<bigint, Buffer>> => {
  if (seqs.length === 0) return new Map();
  const rows = await sql.query<{ seq: bigint; ciphertext: Buffer }>(
    `select seq, ciphertext from edict.payload
     where log_id = $1::int and ${inSegments(seqs)} and seq = any ($2::text::bigint[])`,
    [logId, bigints(seqs)],
  );
  return new Map(rows.map(({ seq, ciphertext }) => [seq, ciphertext]));
};

/** Rows that the search gives at once, and bytes of payloads that are in memory at once: at least one payload. */
export const MAX_ROWS = 500;
const MAX_PAYLOAD_BYTES = 4 * 1024 * 1024;

/** Consecutive rows whose payloads together are bounded. */
export const slices = <Row extends { readonly bytes: number }>(rows: readonly Row[]): readonly (readonly Row[])[] => {
  const all: Row[][] = [];
  let bytes = 0;
  for (const row of rows) {
    const slice = all.at(-1);
    bytes += row.bytes;
    if (slice !== undefined && bytes <= MAX_PAYLOAD_BYTES) slice.push(row);
    else {
      all.push([row]);
      bytes = row.bytes;
    }
  }
  return all;
};

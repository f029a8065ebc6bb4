import { AppError } from '../../shared/contracts/errors.ts';
import type { PublishedLog } from '../../shared/tlog/tiles.ts';
import type { Sql } from '../core/append.ts';
import type { MetaReader } from '../core/meta-log.ts';

interface Piece {
  readonly at: bigint;
  readonly bytes: Buffer;
}

const LEAVES = (bytes: string): string =>
  `select m.index as at, ${bytes} as bytes from edict.meta_leaf m
   where m.incarnation = $1::int and m.index >= $2::bigint and m.index < $2::bigint + $3::int order by m.index`;

const NODES = `select n.index as at, n.hash as bytes from edict.meta_node n
   where n.incarnation = $1::int and n.index >= $2::bigint and n.index < $2::bigint + $3::int and n.level = $4::smallint
   order by n.index`;

/** Tiles of the meta log, from what is stored. Rejects with `ledger_corrupt` when a leaf or hash is missing. */
export const createMetaReader = (sql: Pick<Sql, 'query'>): MetaReader => {
  const read = async (
    text: string,
    what: string,
    from: bigint,
    count: number,
    ...rest: readonly unknown[]
  ): Promise<readonly Buffer[]> => {
    const [incarnation, ...more] = rest;
    const rows = await sql.query<Piece>(text, [incarnation, String(from), count, ...more]);
    const missing = Array.from({ length: count }, (_, n) => from + BigInt(n)).find((at, n) => rows[n]?.at !== at);
    if (missing !== undefined) throw new AppError('ledger_corrupt', `${what} ${missing} of the meta log is missing`);
    return rows.map(({ bytes }) => bytes);
  };
  return {
    published: async (incarnation) => {
      const [log] = await sql.query<PublishedLog>(
        `select c.incarnation as id, c.size, c.note || coalesce((
           select string_agg(a.bytes, ''::bytea order by a.source)
           from (select distinct on (k.source) k.source, k.bytes from edict.meta_attestation k
                 where k.incarnation = c.incarnation and k.size = c.size and k.kind = 'cosignature'
                 order by k.source, k.time_ms desc) a), ''::bytea) as note
         from edict.meta_checkpoint c where c.incarnation = $1::int order by c.size desc limit 1`,
        [incarnation],
      );
      return log;
    },
    hashes: (incarnation, level, from, count) =>
      level === 0
        ? read(LEAVES(`sha256('\\x00'::bytea || m.entry)`), 'leaf', from, count, incarnation)
        : read(NODES, `hash of level ${level},`, from, count, incarnation, level),
    entries: (incarnation, from, count) => read(LEAVES('m.entry'), 'entry', from, count, incarnation),
  };
};

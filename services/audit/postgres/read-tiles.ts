import { AppError } from '../../shared/contracts/errors.ts';
import type { Sql } from '../core/append.ts';
import type { PublishedLog, TileReader } from '../../shared/tlog/tiles.ts';

interface Piece {
  readonly at: bigint;
  readonly bytes: Buffer;
}

const ENTRIES = (column: 'leaf' | 'header'): string =>
  `select e.seq as at, e.${column} as bytes from edict.entry e
   where e.log_id = $1::int and e.segment between ($2::bigint >> 16)::int and (($3::bigint - 1) >> 16)::int
     and e.seq >= $2::bigint and e.seq < $3::bigint order by e.segment, e.seq`;

const NODES = `select n.index as at, n.hash as bytes from edict.tree_node n
   where n.log_id = $1::int and n.level = $4::smallint and n.index >= $2::bigint and n.index < $3::bigint
   order by n.index`;

/** Tiles from what is stored: level 0 from the leaves, above it from the signer's hashes. Nothing is computed here. */
export const createTileReader = (sql: Pick<Sql, 'query'>): TileReader => {
  const read = async (
    text: string,
    what: string,
    logId: number,
    from: bigint,
    count: number,
    ...more: readonly unknown[]
  ): Promise<readonly Buffer[]> => {
    const rows = await sql.query<Piece>(text, [logId, String(from), String(from + BigInt(count)), ...more]);
    rows.forEach(({ at }, index) => {
      if (at !== from + BigInt(index))
        throw new AppError('ledger_corrupt', `${what} ${from + BigInt(index)} is missing`);
    });
    if (rows.length !== count) throw new AppError('ledger_corrupt', `${what} ${from + BigInt(rows.length)} is missing`);
    return rows.map(({ bytes }) => bytes);
  };
  return {
    published: async (tenant, shard, incarnation) => {
      const [log] = await sql.query<PublishedLog>(
        `select l.id, c.size, c.note from edict.log l join edict.checkpoint c on c.log_id = l.id
         where l.tenant = $1::text and l.shard = $2::int and l.incarnation = $3::int
         order by c.size desc limit 1`,
        [tenant, shard, incarnation],
      );
      return log;
    },
    newest: async (logId) => {
      const [log] = await sql.query<PublishedLog>(
        `select c.log_id as id, c.size, c.note from edict.checkpoint c where c.log_id = $1::int
         order by c.size desc limit 1`,
        [logId],
      );
      return log;
    },
    hashes: (logId, level, from, count) =>
      level === 0
        ? read(ENTRIES('leaf'), 'leaf', logId, from, count)
        : read(NODES, `hash of level ${level},`, logId, from, count, level),
    entries: (logId, from, count) => read(ENTRIES('header'), 'entry', logId, from, count),
  };
};

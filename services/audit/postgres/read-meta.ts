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

/** The note of meta checkpoint `c` with the newest cosignature of each witness behind it. */
const COSIGNED = `c.note || coalesce((
  select string_agg(a.bytes, ''::bytea order by a.source)
  from (select distinct on (k.source) k.source, k.bytes from edict.meta_attestation k
        where k.incarnation = c.incarnation and k.size = c.size and k.kind = 'cosignature'
        order by k.source, k.time_ms desc) a), ''::bytea)`;

/** How many of the newest cosignatures are looked at for the checkpoints that most witnesses have. */
const RECENT = 256;

/** Meta checkpoints without a newer one that as many witnesses cosigned. */
const COVERING = `with newest as (
    select m.incarnation, m.origin from edict.meta_log m
    where m.incarnation = (select l.incarnation from edict.meta_leaf l where l.log_id = $1::int order by l.size desc limit 1)
  ), counted as (
    select r.size, count(distinct r.source) as sources
    from (
      (select t.size, t.source from newest n join edict.meta_attestation t using (incarnation)
       where t.kind = 'cosignature' order by t.size desc limit ${RECENT})
      union all
      (select t.size, null from newest n join edict.meta_checkpoint t using (incarnation) order by t.size desc limit 1)
    ) r group by r.size
  )
  select f.size, k.note, f.index, c.incarnation, n.origin, c.size as meta_size, ${COSIGNED} as meta_note
  from newest n
  cross join counted b
  join edict.meta_checkpoint c on c.incarnation = n.incarnation and c.size = b.size
  cross join lateral (
    select l.index, l.size from edict.meta_leaf l
    where l.log_id = $1::int and l.incarnation = n.incarnation and l.index < b.size order by l.size desc limit 1) f
  join edict.checkpoint k on k.log_id = $1::int and k.size = f.size
  where f.size > $2::bigint and not exists (select from counted d where d.size > b.size and d.sources >= b.sources)
  order by b.size`;

interface CoveringRow {
  readonly size: bigint;
  readonly note: Buffer;
  readonly index: bigint;
  readonly incarnation: number;
  readonly origin: string;
  readonly meta_size: bigint;
  readonly meta_note: Buffer;
}

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
        `select c.incarnation as id, c.size, ${COSIGNED} as note
         from edict.meta_checkpoint c where c.incarnation = $1::int order by c.size desc limit 1`,
        [incarnation],
      );
      return log;
    },
    covering: async (logId, above) => {
      const rows = await sql.query<CoveringRow>(COVERING, [logId, String(above)]);
      return rows.map(({ size, note, index, incarnation, origin, ...meta }) => ({
        size,
        note,
        index,
        meta: { incarnation, origin, size: meta.meta_size, note: meta.meta_note },
      }));
    },
    hashes: (incarnation, level, from, count) =>
      level === 0
        ? read(LEAVES(`sha256('\\x00'::bytea || m.entry)`), 'leaf', from, count, incarnation)
        : read(NODES, `hash of level ${level},`, from, count, incarnation, level),
    entries: (incarnation, from, count) => read(LEAVES('m.entry'), 'entry', from, count, incarnation),
  };
};

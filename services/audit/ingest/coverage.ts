import type { Log, Sql } from '../core/append.ts';
import type { AckedStream, Stream } from '../core/ingest-stream.ts';
import { SIGNED, type Logs } from './statements.ts';
import { isOwnCheckpoint } from '../core/verify-checkpoints.ts';

/** In the transaction of a seal: everything that is complete now is covered by whatever checkpoint has its size. */
export const markSealed = async (sql: Sql, logId: number, size: bigint): Promise<void> => {
  await sql.query(
    `update edict.stream set sealed_to = complete_to, sealed_size = $2::bigint
     where log_id = $1::int and sealed_to <> complete_to`,
    [logId, String(size)],
  );
};

/** The embedded database was flushed after `streams` were read: where nothing was ever signed, that covers them. */
export const markFlushed = async (
  sql: Pick<Sql, 'query'>,
  logs: Logs,
  streams: readonly AckedStream[],
): Promise<void> => {
  const rows = streams.flatMap(({ tenant, emitter, boot, coveredTo }) => {
    const log = logs.get(tenant);
    return log === undefined ? [] : [{ log_id: log.id, emitter, boot: String(boot), covered_to: String(coveredTo) }];
  });
  if (rows.length === 0) return;
  await sql.query(
    `update edict.stream s set covered_to = least(w.covered_to, s.complete_to)
     from jsonb_to_recordset($1::text::jsonb)
       as w(log_id integer, emitter edict.emitter_id, boot edict.u64, covered_to numeric)
     where s.log_id = w.log_id and s.emitter = w.emitter and s.boot = w.boot 
       and not ${SIGNED}`,
    [JSON.stringify(rows)],
  );
};

/** A stream whose seal a checkpoint of `{size}` covers, and whose mark stands elsewhere. */
const SEALED_FURTHER =
  's.sealed_size between 1 and {size} and s.covered_to <> s.sealed_to and s.sealed_to <= s.complete_to';

interface SignedLog extends Log {
  readonly vkey: string;
  readonly size: bigint;
  readonly note: Buffer;
}

/** The newest checkpoint of each log that is further than the marks of its streams. */
const readSignedLogs = (sql: Pick<Sql, 'query'>): Promise<readonly SignedLog[]> =>
  sql.query<SignedLog>(
    `select l.id, l.tenant::text as tenant, l.origin, l.vkey, c.size, c.note from edict.log l
     cross join lateral (select k.size, k.note from edict.checkpoint k where k.log_id = l.id
                         order by k.size desc limit 1) c
     where exists (select from edict.stream s
                   where s.log_id = l.id and ${SEALED_FURTHER.replace('{size}', 'c.size')})
     order by l.id`,
    [],
  );

/**
 * Moves `covered_to` of streams to where a signed checkpoint covers them, with the log's key tested here too; gives
 * those that moved. To be called before the next seal is written: that names the place where the marks go next.
 */
export const followCheckpoints = async (
  database: Pick<Sql, 'query'>,
): Promise<readonly Pick<Stream, 'emitter' | 'boot'>[]> => {
  const moved: Pick<Stream, 'emitter' | 'boot'>[] = [];
  for (const log of await readSignedLogs(database)) {
    if (!isOwnCheckpoint(log)) continue;
    const rows = await database.query<{ emitter: string; boot: string }>(
      `update edict.stream s set covered_to = s.sealed_to
       where s.log_id = $1::int and ${SEALED_FURTHER.replace('{size}', '$2::bigint')} 
       returning s.emitter::text as emitter, s.boot::text as boot`,
      [log.id, String(log.size)],
    );
    for (const { emitter, boot } of rows) moved.push({ emitter, boot: BigInt(boot) });
  }
  return moved;
};

import { AppError, errorCode, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import type { Sql } from './append.ts';

/**
 * A database, real or embedded; the same SQL and the same types on both: `bytea` is a Buffer, `bigint` a BigInt,
 * `numeric` (`edict.u64`) decimal text, `json` parsed, `timestamptz` text. Without parameters `query` may hold several
 * statements and returns the rows of the last. Arrays of bytes are not portable as parameters: pass rows as one JSON
 * text and take them apart with `jsonb_to_recordset($1::text::jsonb)`, bytes as hex through `decode(…, 'hex')`.
 */
export interface Database {
  /** One statement in a transaction of its own. */
  readonly query: Sql['query'];
  /** Everything that `work` queries through its argument, in one transaction; rolled back when `work` rejects. */
  readonly transaction: <T>(work: (sql: Sql) => Promise<T>) => Promise<T>;
  /** Makes what was committed survive a power cut. A real server's commits do so by themselves. */
  readonly flush: () => Promise<void>;
  readonly close: () => Promise<void>;
}

/** SQLSTATE classes that say: not now. Connection, resources, operator intervention, system error. */
const UNAVAILABLE = /^(08|53|57|58|55P03|25P0[234])/;
/** Somebody else was first: serialization, deadlock, unique violation. */
const CONFLICT = /^(40001|40P01|23505)$/;
const SQLSTATE = /^[0-9A-Z]{5}$/;

const textMember = (value: unknown, name: string): string | undefined => {
  const member: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  return typeof member === 'string' ? member : undefined;
};

/**
 * The `AppError` for whatever a database client threw: `database_unavailable` (try again), `database_conflict`
 * (read the state anew), else `internal`. `details`: `sqlstate` and `constraint`. The text of data exceptions (class
 * 22, 23) quotes values, which may be personal, so it stays in the cause.
 */
export const databaseError = (cause: unknown): AppError => {
  if (isAppError(cause)) return cause;
  const code = errorCode(cause);
  const sqlstate = code !== undefined && SQLSTATE.test(code) ? code : undefined;
  if (sqlstate === undefined)
    return new AppError('database_unavailable', `the database does not answer (${code ?? errorMessage(cause)})`, {
      cause,
    });
  const constraint = textMember(cause, 'constraint');
  const details = { sqlstate, ...(constraint === undefined ? {} : { constraint }) };
  const isData = sqlstate.startsWith('22') || sqlstate.startsWith('23');
  const text = `${isData ? `constraint ${constraint ?? '-'}` : errorMessage(cause)} (SQLSTATE ${sqlstate})`;
  // A prepared statement that the server does not take any more; on another connection it is prepared anew.
  if (sqlstate === '26000' || textMember(cause, 'routine') === 'RevalidateCachedQuery')
    return new AppError('database_unavailable', `a prepared statement is void: ${text}`, { cause, details });
  if (CONFLICT.test(sqlstate))
    return new AppError('database_conflict', `the database refused: ${text}`, { cause, details });
  if (UNAVAILABLE.test(sqlstate))
    return new AppError('database_unavailable', `the database is not available: ${text}`, { cause, details });
  return new AppError('internal', `the database refused: ${text}`, { cause, details });
};

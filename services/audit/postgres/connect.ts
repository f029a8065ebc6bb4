import { readFileSync } from 'node:fs';
import pg from 'pg';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import type { Sql } from '../core/append.ts';
import { databaseError, type Database } from '../core/database.ts';

export interface ConnectOptions {
  /** Connections at most; default 4. */
  readonly poolSize?: number;
  readonly connectTimeoutMs?: number;
  /** How long one statement may take; default 30 s. */
  readonly statementTimeoutMs?: number;
  /** How long a statement may wait for a lock; default 10 s. */
  readonly lockTimeoutMs?: number;
  /** How long a transaction may lie idle before the server ends it, so that a hung writer frees its heads. */
  readonly idleTransactionTimeoutMs?: number;
  readonly applicationName?: string;
  /**
   * Statements with parameters are prepared once a connection, so that the server plans them once: for programs that
   * run the same few statements again and again, with values that need no plan of their own.
   */
  readonly prepares?: boolean;
  /**
   * A pooler in transaction mode stands between: each transaction may meet another session of the server, so nothing is
   * prepared, and nothing set but for a transaction. A statement by itself is bounded by the client then.
   */
  readonly isPooled?: boolean;
}

/** Object ids of built-in types; they never change. */
const OID = { int8: 20, numeric: 1700, date: 1082, timestamp: 1114, timestamptz: 1184 } as const;
const AS_TEXT: ReadonlySet<number> = new Set([OID.numeric, OID.date, OID.timestamp, OID.timestamptz]);

const builtinParser = pg.types.getTypeParser as (oid: number, format: 'text') => (text: string) => unknown;

/** Types as `Database` promises; what is not named here stays as the client gives it. */
const typeParser = (oid: number): ((text: string) => unknown) => {
  if (oid === OID.int8) return BigInt;
  if (AS_TEXT.has(oid)) return String;
  return builtinParser(oid, 'text');
};

const isArrayOfResults = (result: pg.QueryResult | pg.QueryResult[]): result is pg.QueryResult[] =>
  Array.isArray(result);

/** Statements are constants of the program; a text that is not among so many stays unnamed. */
const MAX_NAMES = 256;
const statementNames = new Map<string, string>();

const nameOf = (text: string): string | undefined => {
  const known = statementNames.get(text);
  if (known !== undefined || statementNames.size >= MAX_NAMES) return known;
  const name = `edict_${statementNames.size + 1}`;
  statementNames.set(text, name);
  return name;
};

const runner = (client: Pick<pg.ClientBase, 'query'>, prepares: boolean): Sql => ({
  query: async <Row>(text: string, parameters?: readonly unknown[]): Promise<readonly Row[]> => {
    try {
      const name = prepares && parameters !== undefined ? nameOf(text) : undefined;
      const result: pg.QueryResult | pg.QueryResult[] = await (parameters === undefined
        ? client.query(text)
        : client.query({ text, values: [...parameters], ...(name === undefined ? {} : { name }) }));
      const last = isArrayOfResults(result) ? result.at(-1) : result;
      return (last?.rows ?? []) as Row[];
    } catch (cause) {
      throw databaseError(cause);
    }
  },
});

/** The URL in a file, trimmed; an empty file leaves everything to libpq's environment variables. */
export const readDatabaseUrl = (file: string): string => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

/**
 * A pool of connections to a Postgres server. Connects when first used; every wait is bounded. Rejections are
 * `AppError`s as `databaseError` makes them. With an empty URL libpq's environment variables (`PGHOST`, `PGPASSFILE`
 * and so on) say where.
 */
export const connectPostgres = (url: string, options: ConnectOptions = {}): Database => {
  const isPooled = options.isPooled ?? false;
  const prepares = options.prepares === true && !isPooled;
  const statementTimeoutMs = options.statementTimeoutMs ?? 30_000;
  const limits = {
    statement_timeout: statementTimeoutMs,
    lock_timeout: options.lockTimeoutMs ?? 10_000,
    idle_in_transaction_session_timeout: options.idleTransactionTimeoutMs ?? 60_000,
  };
  const begin = isPooled
    ? ['begin', ...Object.entries(limits).map(([name, value]) => `set local ${name} = ${value}`)].join('; ')
    : 'begin';
  const pool = new pg.Pool({
    ...(url === '' ? {} : { connectionString: url }),
    max: options.poolSize ?? 4,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
    // They travel with the start of a session, which a pooler refuses.
    ...(isPooled ? {} : limits),
    // The client's own limit, for a server that does not answer at all.
    query_timeout: statementTimeoutMs + 5_000,
    idleTimeoutMillis: 30_000,
    application_name: options.applicationName ?? 'edict',
    keepAlive: true,
    // What is sent without waiting for each other (`inOrder`) goes out at once; the server answers in order.
    pipeline: true,
    types: { getTypeParser: (oid: number) => typeParser(oid) },
  });
  // A connection that dies while idle is replaced at the next use; without a listener it would end the process.
  pool.on('error', () => undefined);
  // The pool listens only while a connection is idle; one that dies in a transaction, between two statements, would
  // end the process too. The next statement on it fails, and that is what the caller learns.
  pool.on('connect', (client) => client.on('error', () => undefined));

  const connect = async (): Promise<pg.PoolClient> => {
    try {
      return await pool.connect();
    } catch (cause) {
      throw databaseError(cause);
    }
  };

  return {
    query: async <Row>(text: string, parameters?: readonly unknown[]) => {
      const client = await connect();
      let failure: Error | undefined;
      try {
        return await runner(client, prepares).query<Row>(text, parameters);
      } catch (error) {
        failure = isBroken(error);
        throw error;
      } finally {
        client.release(failure);
      }
    },
    transaction: async (work) => {
      const client = await connect();
      const sql = runner(client, prepares);
      let failure: Error | undefined;
      try {
        await sql.query(begin);
        const result = await work(sql);
        await commit(client);
        return result;
      } catch (error) {
        failure = isBroken(error);
        if (failure === undefined) {
          try {
            await sql.query('rollback');
          } catch (rollbackError) {
            failure = isBroken(rollbackError) ?? new Error('rollback failed');
          }
        }
        throw error;
      } finally {
        client.release(failure);
      }
    },
    flush: () => Promise.resolve(),
    close: () => pool.end(),
  };
};

/** A transaction that a failed statement ended answers `commit` with ROLLBACK, and no error. */
const commit = async (client: pg.ClientBase): Promise<void> => {
  try {
    const { command } = await client.query('commit');
    if (command === 'COMMIT') return;
  } catch (cause) {
    throw databaseError(cause);
  }
  throw new AppError('internal', 'a statement of the transaction failed, and nobody said so: it was rolled back');
};

/** A connection after such an error is thrown away: a late answer to an old question must reach nobody. */
const isBroken = (error: unknown): Error | undefined =>
  errorCode(error) === 'database_unavailable' ? new Error('connection in doubt', { cause: error }) : undefined;

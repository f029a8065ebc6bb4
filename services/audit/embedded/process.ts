import { PGlite } from '@electric-sql/pglite';
import { errorCode, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { lockDirectory } from './directory-lock.ts';
import type { EmbeddedAnswer, EmbeddedRequest } from './messages.ts';

/**
 * The program of the process that holds the embedded database: PGlite is one session of a WebAssembly Postgres whose
 * queries block their thread, so it has a process to itself, and with it the lock of its folder. It ends when its
 * parent does.
 */
const [mode, folder] = process.argv.slice(2);

/** Object ids of built-in types; they never change. */
const OID = { bytea: 17, int8: 20, numeric: 1700, date: 1082, timestamp: 1114, timestamptz: 1184 } as const;
const asText = (text: string): string => text;

/** The same types as the client of a real server gives; see `Database`. */
const parsers = {
  [OID.bytea]: (text: string) => Buffer.from(text.slice(2), 'hex'),
  [OID.int8]: (text: string) => BigInt(text),
  [OID.numeric]: asText,
  [OID.date]: asText,
  [OID.timestamp]: asText,
  [OID.timestamptz]: asText,
};

/** A parameter as its text form, whatever its type: what the client of a real server does. */
const parameterText = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  if (value instanceof Uint8Array)
    return `\\x${Buffer.from(value.buffer, value.byteOffset, value.length).toString('hex')}`;
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  return JSON.stringify(value);
};

const send = (answer: EmbeddedAnswer): void => {
  if (process.connected) process.send?.(answer);
};

const open = async (dataDir: string): Promise<PGlite> =>
  PGlite.create({
    dataDir,
    parsers,
    startParams: [...PGlite.defaultStartParams, '-c', 'shared_buffers=16MB', '-c', 'timezone=UTC'],
  });

const textMember = (value: unknown, name: string): string | undefined => {
  const member: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  return typeof member === 'string' ? member : undefined;
};

const answer = async (database: PGlite, { id, text, parameters }: EmbeddedRequest): Promise<EmbeddedAnswer> => {
  try {
    if (parameters === undefined) {
      const results = await database.exec(text);
      return { kind: 'rows', id, rows: results.at(-1)?.rows ?? [] };
    }
    // Turned into text here, so that the client's own serializers, which differ by type, have nothing to do.
    const texts = parameters.map(parameterText);
    const { rows } = await database.query<object>(text, texts, { serializers: passText });
    return { kind: 'rows', id, rows };
  } catch (error) {
    const sqlstate = errorCode(error);
    const constraint = textMember(error, 'constraint');
    return {
      kind: 'error',
      id,
      message: errorMessage(error),
      ...(sqlstate === undefined ? {} : { sqlstate }),
      ...(constraint === undefined ? {} : { constraint }),
    };
  }
};

/** Every type's serializer: the text as it is. */
const passText: Record<number, (value: string) => string> = new Proxy({}, { get: () => asText, has: () => true });

const serve = async (dataDir: string, unlock: () => void): Promise<void> => {
  const database = await open(dataDir);
  let queue: Promise<void> = Promise.resolve();
  const stop = (): void => {
    queue = queue
      .then(() => database.close())
      .catch(() => undefined)
      .then(() => {
        unlock();
        process.exit(0);
      });
  };
  process.on('message', (message: EmbeddedRequest | 'close') => {
    if (message === 'close') stop();
    else queue = queue.then(async () => send(await answer(database, message)));
  });
  process.on('disconnect', stop);
  send({ kind: 'ready' });
};

const main = async (): Promise<void> => {
  if ((mode !== 'initialize' && mode !== 'serve') || folder === undefined) {
    process.exitCode = 2;
    return;
  }
  // The parent decides when to stop: Ctrl-C reaches the whole process group.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);
  let unlock: (() => void) | undefined;
  try {
    unlock = lockDirectory(`${folder}.lock`);
    if (mode === 'serve') {
      await serve(folder, unlock);
      return;
    }
    const database = await open(`${folder}.new`);
    await database.query('select 1');
    await database.close();
    unlock();
    process.exit(0);
  } catch (error) {
    const isLocked = isAppError(error) && error.code === 'database_locked';
    if (!isLocked) unlock?.();
    send({ kind: 'failed', code: isLocked ? 'database_locked' : 'ledger_corrupt', message: errorMessage(error) });
    process.exit(isLocked ? 3 : 1);
  }
};

await main();

import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { databaseError } from '../core/database.ts';
import { formatLsn, statusUpdate, type Lsn } from '../core/wal-changes.ts';

/** A slot's messages, from where it stands. */
export interface ReplicationStream {
  /** CopyData messages. Ends, or rejects with `database_unavailable`, when the connection does. */
  readonly messages: AsyncIterable<Buffer>;
  /** Everything before `lsn` may be forgotten by the server. */
  readonly confirm: (lsn: Lsn) => void;
  readonly close: () => Promise<void>;
}

export interface ReplicationOptions {
  readonly url: string;
  readonly slot: string;
  readonly publications: readonly string[];
  readonly connectTimeoutMs?: number;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** How long the server may take to end a stream that is given up. */
const END_TIMEOUT_MS = 2_000;
/** Messages that wait; behind them the socket is not read. */
const MAX_WAITING = 256;

/** What node-postgres has, and its types do not name; `pg-copy-streams` uses the same. */
type CopyConnection = pg.Connection & {
  readonly sendCopyFromChunk: (chunk: Buffer) => void;
  readonly endCopyFrom: () => void;
};

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/**
 * Starts to stream what the publications name. node-postgres takes any object that submits itself and is handed the
 * messages that come: here the ones of a replication, which never end by themselves.
 */
export const openReplicationStream = async (options: ReplicationOptions): Promise<ReplicationStream> => {
  const { url, slot, publications } = options;
  const config: pg.ClientConfig & { readonly replication: 'database' } = {
    ...(url === '' ? {} : { connectionString: url }),
    replication: 'database',
    connectionTimeoutMillis: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: 'edict-tripwire',
  };
  const client = new pg.Client(config);
  let connection: CopyConnection | undefined;
  let onEnded: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    onEnded = resolve;
  });
  const messages = new Readable({
    objectMode: true,
    highWaterMark: MAX_WAITING,
    read: () => void connection?.stream.resume(),
  });
  const fail = (error: unknown): void => {
    onEnded();
    messages.destroy(databaseError(error));
  };
  // Whoever iterates hears of it; between two iterations it would end the process.
  messages.on('error', () => undefined);
  client.on('error', fail);
  client.on('end', () => fail(new Error('the connection ended')));
  try {
    await client.connect();
  } catch (cause) {
    throw databaseError(cause);
  }
  const names = publications.join(',');
  client.query({
    submit: (submitted: pg.Connection) => {
      connection = submitted as CopyConnection;
      connection.query(
        `START_REPLICATION SLOT "${slot}" LOGICAL ${formatLsn(0n)} ` +
          `(proto_version '1', publication_names ${literal(names)})`,
      );
    },
    callback: () => undefined,
    handleCopyData: ({ chunk }: { readonly chunk: Buffer }) => {
      // The client reads the next bytes into the same memory.
      if (!messages.destroyed && !messages.push(Buffer.from(chunk))) connection?.stream.pause();
    },
    handleError: fail,
    handleCommandComplete: () => undefined,
    handleReadyForQuery: () => fail(new Error('the server ended the stream')),
  } as pg.Submittable);
  return {
    messages: messages as AsyncIterable<Buffer>,
    confirm: (lsn) => connection?.sendCopyFromChunk(statusUpdate(lsn, BigInt(Date.now()) * 1000n)),
    close: async () => {
      messages.destroy();
      connection?.stream.resume();
      // The server has read what was confirmed before it says that it ended.
      connection?.endCopyFrom();
      await Promise.race([ended, sleep(END_TIMEOUT_MS, undefined, { ref: false })]);
      await client.end().catch(() => undefined);
    },
  };
};

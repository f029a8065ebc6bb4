/**
 * The audit service's ingest as a process of its own, fed from memory: `fork` it with an `IngestOrder` as JSON. It
 * makes the events of a round before the clock runs, then takes them into the ledger, and seals as the service does.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { createSearchNames } from '../../services/audit/core/pseudonym.ts';
import type { SourceMessage } from '../../services/audit/core/ingest-source.ts';
import { freshIds } from '../../services/audit/core/own-entry.ts';
import { createIngest } from '../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../services/audit/ingest/metrics.ts';
import { createSealer } from '../../services/audit/ingest/seals.ts';
import { createPostgresPayloadKeys } from '../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { createLedgerWriter } from '../../services/audit/postgres/ledger-writer.ts';
import { sha256Hex } from '../../services/shared/contracts/bytes.ts';
import { errorMessage } from '../../services/shared/contracts/errors.ts';
import { DECISIONS_TOPIC } from '../../services/shared/contracts/events.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import { rowEvent } from './query-rows.ts';

export interface IngestOrder {
  readonly writerUrl: string;
  readonly keysUrl: string;
  readonly masterKeyHex: string;
  readonly batch: number;
  readonly sealMs: number;
  /** Decisions of all rounds together. */
  readonly rows: number;
}

/** What the process is told: make so many events, take them, end. */
export type IngestCommand =
  { readonly kind: 'prepare'; readonly events: number } | { readonly kind: 'take' } | { readonly kind: 'end' };

/** And what it answers. */
export type IngestAnswer =
  | { readonly kind: 'prepared' }
  | { readonly kind: 'taken'; readonly ms: number; readonly cpuUs: number }
  | { readonly kind: 'failed'; readonly message: string };

/** Messages that a source hands over at once. */
const HANDED = 2_000;
const BOOT = '1';

const run = (order: IngestOrder): void => {
  const connect = (url: string) => connectPostgres(url, { poolSize: 4, prepares: true });
  const database = connect(order.writerUrl);
  const masterKey = Buffer.from(order.masterKeyHex, 'hex');
  const keys = createPostgresPayloadKeys(connect(order.keysUrl), { masterKey });
  const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;
  const nameForSearch = createSearchNames(masterKey);
  const writeLedger = createLedgerWriter({ database, keys, nameForSearch, nowUs });
  const ingest = createIngest({
    database,
    writeLedger,
    nowUs,
    batch: order.batch,
    gapGraceMs: 60_000,
    pinned: [],
    isCommitDurable: true,
    onCommitted: () => undefined,
    logger: pino({ level: 'silent' }),
    metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
  });
  const sealer = createSealer({ database, writeLedger, logs: ingest.logs, ids: freshIds() });
  const seal = async (): Promise<void> => {
    for (;;) {
      await sleep(order.sealMs);
      // What the ingest holds at the moment is sealed the next time.
      await sealer.sealAll().catch(() => undefined);
    }
  };
  void seal();

  const emitter = randomBytes(16).toString('hex');
  let made = 0;
  let previous = '00'.repeat(32);
  let waiting: SourceMessage[] = [];

  const makeMessage = (): SourceMessage => {
    const sequence = String(made + 1);
    const { bytes } = rowEvent(made, order.rows, { emitter, boot: BOOT, sequence, previous });
    previous = sha256Hex(bytes);
    const headers = Object.entries({ emitter, boot: BOOT, tenant: 'acme', sequence });
    made += 1;
    return {
      topic: DECISIONS_TOPIC,
      partition: 0,
      offset: BigInt(made - 1),
      headers: headers.map(([name, value]) => [name, Buffer.from(value)] as const),
      value: bytes,
    };
  };

  const answer = (message: IngestAnswer): void => void process.send?.(message);
  const take = async (): Promise<void> => {
    const messages = waiting;
    waiting = [];
    const cpu = process.cpuUsage();
    const startedMs = performance.now();
    for (let first = 0; first < messages.length; first += HANDED)
      await ingest.take(messages.slice(first, first + HANDED), () => Promise.resolve(true));
    const { user, system } = process.cpuUsage(cpu);
    answer({ kind: 'taken', ms: performance.now() - startedMs, cpuUs: user + system });
  };

  process.on('message', (command: IngestCommand) => {
    if (command.kind === 'end') process.exit(0);
    if (command.kind === 'prepare') {
      waiting = Array.from({ length: command.events }, makeMessage);
      answer({ kind: 'prepared' });
    } else take().catch((error: unknown) => answer({ kind: 'failed', message: errorMessage(error) }));
  });
};

if (process.send !== undefined && process.argv[2] !== undefined) run(JSON.parse(process.argv[2]) as IngestOrder);

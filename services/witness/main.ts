import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { AppError, errorCode, errorMessage } from '../shared/contracts/errors.ts';
import { parseVkey, type VerifierKey } from '../shared/contracts/signatures.ts';
import { listen, parseListen } from '../shared/runtime/http-server.ts';
import { createLifecycle, type Handle } from '../shared/runtime/lifecycle.ts';
import { createLogger, type Logger } from '../shared/runtime/logger.ts';
import { createRegistry } from '../shared/runtime/metrics.ts';
import { formatWitnessVkey } from '../shared/tlog/cosignature.ts';
import { createWitness } from './core/witness.ts';
import { createWitnessApp } from './http/app.ts';
import { openWitnessFolder } from './state/folder.ts';

export interface WitnessOptions {
  /** Files with verifier keys of logs, one a line. */
  readonly logFiles: readonly string[];
  /** What it may not forget, and its key. */
  readonly folder: string;
  /** `host:port`. */
  readonly listen: string;
  readonly name?: string | undefined;
}

export interface RunningWitness extends Handle {
  readonly url: string;
  readonly vkey: string;
  close(): Promise<void>;
}

const REQUEST_TIMEOUT_MS = 10_000;
/** With the longest request there can be: 20 MB. */
const MAX_CONNECTIONS = 256;

/** Throws `usage` for a file that cannot be read or holds anything else. */
const readLogs = (files: readonly string[]): ReadonlyMap<string, readonly VerifierKey[]> => {
  const logs = new Map<string, VerifierKey[]>();
  for (const file of files) {
    try {
      for (const line of readFileSync(file, 'utf8').split('\n')) {
        if (line.trim() === '') continue;
        const key = parseVkey(line);
        logs.set(key.name, [...(logs.get(key.name) ?? []), key]);
      }
    } catch (cause) {
      throw new AppError('usage', `--log: ${file}: ${errorCode(cause) ?? errorMessage(cause)}`, { cause });
    }
  }
  if (logs.size === 0) throw new AppError('usage', '--log: no file holds a verifier key');
  return logs;
};

/** Starts a witness. Throws `usage`, `settings_invalid`, `witness_failed`; nothing runs then. */
export const startWitness = async (
  options: WitnessOptions,
  { logger }: { logger: Logger },
): Promise<RunningWitness> => {
  const logs = readLogs(options.logFiles);
  const address = parseListen(options.listen);
  const folder = await openWitnessFolder({ folder: options.folder, name: options.name, origins: [...logs.keys()] });
  try {
    const { signer, witness, seen } = folder;
    const vkey = formatWitnessVkey(witness.name, witness.publicKey);
    const { addCheckpoint } = createWitness({
      logs,
      seen,
      signer,
      witness,
      nowS: () => Math.floor(Date.now() / 1_000),
    });
    const app = createWitnessApp({
      addCheckpoint,
      vkey,
      logs: () => [...logs.keys()].map((origin) => ({ origin, checkpoint: seen.read(origin)?.note ?? null })),
      checks: {
        state: () => {
          const reason = folder.failure();
          return reason === undefined ? { ok: true } : { ok: false, reason };
        },
      },
      registry: createRegistry({ service: 'witness' }),
      logger,
      nowMs: () => performance.now(),
    });
    const limits = { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS };
    // Node looks for late requests every 30 s by itself.
    const http = createServer({ ...limits, connectionsCheckingInterval: 1_000 }, app);
    http.maxConnections = MAX_CONNECTIONS;
    const server = await listen(http, address);
    const close = async (): Promise<void> => {
      await server.close();
      await folder.close();
    };
    return { url: server.url, vkey, close };
  } catch (error) {
    await folder.close();
    throw error;
  }
};

/** `edict witness`: runs until a signal; resolves when it listens. */
export const serveWitness = async (options: WitnessOptions): Promise<void> => {
  const logger = createLogger({ service: 'witness' });
  const lifecycle = createLifecycle({ logger });
  const { url, vkey } = await lifecycle.start('witness', () => startWitness(options, { logger }));
  logger.info({ url, vkey, folder: options.folder }, 'witness runs');
};

import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import { formatVkey, type SigningKey, type VerifierKey } from '../../shared/contracts/signatures.ts';
import type { Handle } from '../../shared/runtime/lifecycle.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { signCheckpoint } from '../../shared/tlog/checkpoint.ts';
import {
  NOTHING_CHECKED,
  nextOrigin,
  planContinuation,
  planEnded,
  planSigning,
  readTree,
  type SignableLog,
  type SigningAlarm,
  type SigningMemory,
  type SigningStore,
} from '../core/signing.ts';
import type { MemoryFolder } from './memory-file.ts';
import type { SignerMetrics } from './metrics.ts';

export interface SignerOptions {
  readonly store: SigningStore;
  readonly memory: MemoryFolder;
  /** The private key of a log; rejects with `settings_invalid` when there is none. */
  readonly keyOf: (log: SignableLog) => { readonly key: SigningKey; readonly verifier: VerifierKey };
  readonly nowUs: () => bigint;
  readonly logger: Logger;
  readonly metrics: SignerMetrics;
}

export interface Signer {
  /** Signs what is new in every log. Rejects when the store does not answer; one log's fault stops no other. */
  readonly signAll: (closing?: AbortSignal) => Promise<void>;
  /** By origin: why a log is not signed at the moment. */
  readonly refused: () => ReadonlyMap<string, string>;
}

/** Said once: whoever restored the database knows what to do, everybody else must find out who did it. */
const remedyOf = ({ alarm }: SigningAlarm, tenant: string): string =>
  alarm === 'log_rewound' || alarm === 'log_forked'
    ? `; if the database was restored from an older copy: \`edict ledger resume ${tenant} --reason …\``
    : '';

const alarmText = (alarm: SigningAlarm, tenant: string): string =>
  `${alarm.alarm}: ${alarm.what}: expected ${alarm.expected}, found ${alarm.actual}${remedyOf(alarm, tenant)}`;

/**
 * Signs checkpoints: reads rows back, hashes them, extends its own tree, writes down what it is about to sign, signs,
 * stores. The order makes two checkpoints of one size with different roots impossible, wherever it is killed.
 */
export const createSigner = (options: SignerOptions): Signer => {
  const { store, memory, keyOf, nowUs, logger, metrics } = options;
  const refusals = new Map<string, string>();
  /** By origin: the last alarm that the store took. */
  const raised = new Map<string, string>();

  /** Once for each state of a log; again when it did not get through. */
  const raise = async (log: SignableLog, signedSize: bigint, alarm: SigningAlarm, note?: Buffer): Promise<void> => {
    const state = `${alarm.alarm}/${signedSize}`;
    if (raised.get(log.origin) === state) return;
    metrics.alarms.inc({ alarm: alarm.alarm });
    logger.error(
      { origin: log.origin, ...alarm, signed_size: String(signedSize) },
      `alarm${remedyOf(alarm, log.tenant)}`,
    );
    const facts = { ...alarm, signedSize, raisedUs: nowUs() };
    await store.raise(log.id, note === undefined ? facts : { ...facts, note });
    raised.set(log.origin, state);
  };

  const refuse = async (log: SignableLog, signedSize: bigint, alarm: SigningAlarm, note?: Buffer): Promise<void> => {
    refusals.set(log.origin, alarmText(alarm, log.tenant));
    await raise(log, signedSize, alarm, note);
  };

  /** The newest checkpoint, which is stored as far as the memory knows, is not in the database. */
  const putBack = async (log: SignableLog, { signed }: SigningMemory, note: Buffer): Promise<void> => {
    await raise(log, signed.size, {
      alarm: 'checkpoint_removed',
      what: 'newest checkpoint in the database',
      expected: String(signed.size),
      actual: String(log.checkpoint?.size ?? 'none'),
    });
    await store.store(log.id, { ...signed, note, nodes: [], signedUs: nowUs() });
  };

  /** What was signed of a later incarnation than the newest in the database; undefined when there was none. */
  const newestOf = (log: SignableLog): { readonly alarm: SigningAlarm; readonly note: Buffer } | undefined => {
    const origin = nextOrigin(log);
    const next = memory.read(origin);
    if (next === undefined || next === 'unreadable') return undefined;
    const later = { ...log, origin, incarnation: log.incarnation + 1 };
    const { key, verifier } = keyOf(later);
    return (
      newestOf(later) ?? { ...planEnded(log, next), note: signCheckpoint({ origin, ...next.signed }, key, verifier) }
    );
  };

  const sign = async (log: SignableLog, closing: AbortSignal | undefined): Promise<void> => {
    const remembered = memory.read(log.origin);
    if (remembered === 'unreadable')
      return refuse(log, 0n, {
        alarm: 'memory_unreadable',
        what: 'the signer’s memory of the log',
        expected: 'what it wrote',
        actual: 'something else',
      });
    const signedSize = remembered?.signed.size ?? 0n;
    const { key, verifier } = keyOf(log);
    const vkey = formatVkey(log.origin, key.publicKey);
    if (log.vkey !== vkey)
      return refuse(log, signedSize, {
        alarm: 'key_mismatch',
        what: 'verifier key of the log',
        expected: vkey,
        actual: log.vkey,
      });
    // Signed once already, so signing it again gives the same note.
    const newest = (): Buffer | undefined =>
      remembered === undefined
        ? undefined
        : signCheckpoint({ origin: log.origin, ...remembered.signed }, key, verifier);
    const ended = newestOf(log);
    if (ended !== undefined) return refuse(log, signedSize, ended.alarm, ended.note);
    const { previous } = log.genesis;
    const before = remembered !== undefined || previous === undefined ? undefined : memory.read(previous.origin);
    const plan = (before !== 'unreadable' && planContinuation(log, before)) || planSigning(log, verifier, remembered);
    if (plan === undefined) {
      refusals.delete(log.origin);
      const note = newest();
      if (remembered !== undefined && note !== undefined && (log.checkpoint?.size ?? 0n) < signedSize)
        await putBack(log, remembered, note);
      return;
    }
    if ('alarm' in plan) return refuse(log, signedSize, plan.alarm, newest());
    if (remembered === undefined && log.checkpoint !== undefined)
      logger.warn({ origin: log.origin }, 'no memory of a log that was signed: it is read from its first entry');
    const read = await readTree(log, plan, (...range) => {
      closing?.throwIfAborted();
      return store.rows(...range);
    });
    if ('alarm' in read) return refuse(log, signedSize, read.alarm, newest());
    const { tree, root, nodes } = read;
    const base = remembered?.base ?? NOTHING_CHECKED;
    const signed: SigningMemory['signed'] = { size: tree.size, root };
    memory.write({ origin: log.origin, base, signed });
    const note = signCheckpoint({ origin: log.origin, ...signed }, key, verifier);
    await store.store(log.id, { ...signed, note, nodes, signedUs: nowUs() });
    memory.write({ origin: log.origin, base: tree, signed });
    refusals.delete(log.origin);
    metrics.checkpoints.inc();
    metrics.entries.inc(Number(tree.size - base.size));
    logger.debug({ origin: log.origin, size: String(tree.size) }, 'signed');
  };

  return {
    async signAll(closing) {
      const logs = await store.logs();
      // A log that was resumed in a new incarnation is nobody's matter any more.
      for (const origin of refusals.keys()) if (!logs.some((log) => log.origin === origin)) refusals.delete(origin);
      const failures: unknown[] = [];
      for (const log of logs) {
        try {
          await sign(log, closing);
        } catch (error) {
          closing?.throwIfAborted();
          failures.push(error);
          logger.error({ err: error, origin: log.origin }, 'cannot sign');
        }
      }
      metrics.refused.set(refusals.size);
      const [first] = failures;
      if (first !== undefined)
        throw new AppError('signer_failed', `${failures.length} of ${logs.length} logs: ${errorMessage(first)}`, {
          cause: first,
        });
    },
    refused: () => refusals,
  };
};

/** Signs again and again until closed. */
export const startSigning = (
  signer: Signer,
  intervalMs: number,
  logger: Logger,
): Handle & { readonly failure: () => string | undefined } => {
  const closing = new AbortController();
  let failure: string | undefined = 'nothing was read yet';
  const work = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        await signer.signAll(closing.signal);
        failure = undefined;
      } catch (error) {
        const text = errorMessage(error);
        if (failure !== text && !closing.signal.aborted) logger.warn({ err: error }, 'signing is tried again');
        failure = text;
      }
      await sleep(intervalMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };
  const working = work();
  return {
    failure: () => failure,
    close: () => {
      closing.abort();
      return working;
    },
  };
};

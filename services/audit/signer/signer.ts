import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import { formatVkey, type SigningKey, type VerifierKey } from '../../shared/contracts/signatures.ts';
import type { Handle } from '../../shared/runtime/lifecycle.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { signCheckpoint } from '../../shared/tlog/checkpoint.ts';
import { leavesOf, META_KEY, metaLeafHash, readMetaTree, type MetaLog, type SignerStore } from '../core/meta-log.ts';
import {
  NOTHING_CHECKED,
  planSigning,
  readTree,
  type NewCheckpoint,
  type ReadTree,
  type SignableLog,
  type SignableTree,
  type SigningAlarm,
  type SigningMemory,
  type SigningPlan,
} from '../core/signing.ts';
import type { MemoryFolder } from './memory-file.ts';
import type { SignerMetrics } from './metrics.ts';

export interface SignerOptions {
  readonly store: SignerStore;
  readonly memory: MemoryFolder;
  /** The private key of a log; throws `settings_invalid` when there is none. */
  readonly keyOf: (log: Pick<SignableTree, 'tenant' | 'incarnation' | 'origin'>) => {
    readonly key: SigningKey;
    readonly verifier: VerifierKey;
  };
  readonly nowUs: () => bigint;
  readonly logger: Logger;
  readonly metrics: SignerMetrics;
}

export interface Signer {
  /**
   * Signs what is new in every log, then makes the new checkpoints leaves of the meta log and signs that. Rejects when the
   * store does not answer; one log's fault stops no other.
   */
  readonly signAll: (closing?: AbortSignal) => Promise<void>;
  /** By origin: why a log is not signed at the moment. */
  readonly refused: () => ReadonlyMap<string, string>;
}

/** One tree, and how it is read and stored. */
interface Target {
  readonly tree: SignableTree;
  readonly read: (plan: SigningPlan) => Promise<ReadTree | { readonly alarm: SigningAlarm }>;
  readonly store: (checkpoint: NewCheckpoint) => Promise<void>;
  readonly raise: (signedSize: bigint, alarm: SigningAlarm) => Promise<void>;
}

const NO_META_LOG = 'there is no meta log: `edict ledger create edict` makes it';

const alarmText = ({ alarm, what, expected, actual }: SigningAlarm): string =>
  `${alarm}: ${what}: expected ${expected}, found ${actual}`;

/**
 * Signs checkpoints: reads rows back, hashes them, extends its own tree, writes down what it is about to sign, signs,
 * stores. The order makes two checkpoints of one size with different roots impossible, wherever it is killed.
 */
export const createSigner = (options: SignerOptions): Signer => {
  const { store, memory, keyOf, nowUs, logger, metrics } = options;
  const refusals = new Map<string, string>();
  /** By origin: the last alarm that the store took. */
  const raised = new Map<string, string>();

  /** Whether every checkpoint was looked for once since the start: from then on the newest are enough. */
  let isListed = false;

  /** Once for each state of a log; again when it did not get through. */
  const raise = async ({ tree, ...target }: Target, signedSize: bigint, alarm: SigningAlarm): Promise<void> => {
    const state = `${alarm.alarm}/${signedSize}`;
    if (raised.get(tree.origin) === state) return;
    metrics.alarms.inc({ alarm: alarm.alarm });
    logger.error({ origin: tree.origin, ...alarm, signed_size: String(signedSize) }, 'alarm');
    await target.raise(signedSize, alarm);
    raised.set(tree.origin, state);
  };

  const refuse = async (target: Target, signedSize: bigint, alarm: SigningAlarm): Promise<void> => {
    refusals.set(target.tree.origin, alarmText(alarm));
    await raise(target, signedSize, alarm);
  };

  /** The newest checkpoint, which is stored as far as the memory knows, is not in the database. */
  const putBack = async (target: Target, { signed }: SigningMemory, note: Buffer): Promise<void> => {
    await raise(target, signed.size, {
      alarm: 'checkpoint_removed',
      what: 'newest checkpoint in the database',
      expected: String(signed.size),
      actual: String(target.tree.checkpoint?.size ?? 'none'),
    });
    await target.store({ ...signed, note, nodes: [], signedUs: nowUs() });
  };

  const sign = async (target: Target): Promise<void> => {
    const { tree: log } = target;
    const remembered = memory.read(log.origin);
    if (remembered === 'unreadable')
      return refuse(target, 0n, {
        alarm: 'memory_unreadable',
        what: 'the signer’s memory of the log',
        expected: 'what it wrote',
        actual: 'something else',
      });
    const signedSize = remembered?.signed.size ?? 0n;
    const { key, verifier } = keyOf(log);
    const vkey = formatVkey(log.origin, key.publicKey);
    if (log.vkey !== vkey)
      return refuse(target, signedSize, {
        alarm: 'key_mismatch',
        what: 'verifier key of the log',
        expected: vkey,
        actual: log.vkey,
      });
    const plan = planSigning(log, verifier, remembered);
    if (plan === undefined) {
      refusals.delete(log.origin);
      if (remembered !== undefined && (log.checkpoint?.size ?? 0n) < signedSize)
        await putBack(target, remembered, signCheckpoint({ origin: log.origin, ...remembered.signed }, key, verifier));
      return;
    }
    if ('alarm' in plan) return refuse(target, signedSize, plan.alarm);
    if (remembered === undefined && log.checkpoint !== undefined)
      logger.warn({ origin: log.origin }, 'no memory of a log that was signed: it is read from its first entry');
    const read = await target.read(plan);
    if ('alarm' in read) return refuse(target, signedSize, read.alarm);
    const { tree, root, nodes } = read;
    const base = remembered?.base ?? NOTHING_CHECKED;
    const signed: SigningMemory['signed'] = { size: tree.size, root };
    memory.write({ origin: log.origin, base, signed });
    const note = signCheckpoint({ origin: log.origin, ...signed }, key, verifier);
    await target.store({ ...signed, note, nodes, signedUs: nowUs() });
    memory.write({ origin: log.origin, base: tree, signed });
    refusals.delete(log.origin);
    metrics.checkpoints.inc();
    metrics.entries.inc(Number(tree.size - base.size));
    logger.debug({ origin: log.origin, size: String(tree.size) }, 'signed');
  };

  const tenantLog = (log: SignableLog, closing: AbortSignal | undefined): Target => ({
    tree: log,
    read: (plan) =>
      readTree(log, plan, (...range) => {
        closing?.throwIfAborted();
        return store.rows(...range);
      }),
    store: (checkpoint) => store.store(log.id, checkpoint),
    raise: (signedSize, alarm) => store.raise(log.id, { ...alarm, signedSize, raisedUs: nowUs() }),
  });

  const metaTree = (meta: MetaLog, closing: AbortSignal | undefined): Target => {
    const { incarnation, origin, vkey, size, lastEntry, checkpoint } = meta;
    return {
      tree: {
        origin,
        vkey,
        tenant: META_KEY,
        incarnation,
        head: { size, leaf: lastEntry === undefined ? new Uint8Array() : metaLeafHash(lastEntry) },
        sealedSize: size,
        ...(checkpoint === undefined ? {} : { checkpoint }),
      },
      read: (plan) =>
        readMetaTree(plan, (from, to) => {
          closing?.throwIfAborted();
          return store.leaves(incarnation, from, to);
        }),
      store: (signed) => store.storeMeta(incarnation, signed),
      raise: (signedSize, { alarm, ...why }) =>
        store.raise(meta.alarmLogId, { alarm: `meta_${alarm}`, ...why, signedSize, raisedUs: nowUs() }),
    };
  };

  /** Whatever is no leaf yet becomes one, wherever an earlier signer was killed; whether there was something. */
  const listCheckpoints = async ({ incarnation }: MetaLog, closing: AbortSignal | undefined): Promise<boolean> => {
    for (let isNew = false; ; isNew = true) {
      closing?.throwIfAborted();
      const leaves = leavesOf(await store.unlisted(!isListed));
      if (leaves.length === 0) {
        isListed = true;
        return isNew;
      }
      await store.list(incarnation, leaves);
    }
  };

  const signMeta = async (closing: AbortSignal | undefined): Promise<void> => {
    const found = await store.metaLog();
    if (found === undefined) throw new AppError('ledger_missing', NO_META_LOG);
    // First what it is: leaves that were lost must not come back by themselves, in whatever order.
    await sign(metaTree(found, closing));
    if (refusals.has(found.origin) || !(await listCheckpoints(found, closing))) return;
    const meta = await store.metaLog();
    if (meta !== undefined) await sign(metaTree(meta, closing));
  };

  return {
    async signAll(closing) {
      const logs = await store.logs();
      const failures: unknown[] = [];
      for (const log of logs) {
        try {
          await sign(tenantLog(log, closing));
        } catch (error) {
          closing?.throwIfAborted();
          failures.push(error);
          logger.error({ err: error, origin: log.origin }, 'cannot sign');
        }
      }
      try {
        await signMeta(closing);
      } catch (error) {
        closing?.throwIfAborted();
        failures.push(error);
      }
      metrics.refused.set(refusals.size);
      const [first] = failures;
      if (first !== undefined)
        throw new AppError('signer_failed', `${failures.length} of ${logs.length + 1} logs: ${errorMessage(first)}`, {
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

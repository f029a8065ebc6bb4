import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { formatVkey, type SigningKey, type VerifierKey } from '../../shared/contracts/signatures.ts';
import type { Handle } from '../../shared/runtime/lifecycle.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { signCheckpoint } from '../../shared/tlog/checkpoint.ts';
import {
  leavesOf,
  META_KEY,
  metaLeafHash,
  readMetaTree,
  type MetaLog,
  type SignerStore,
  type VerifierOf,
} from '../core/meta-log.ts';
import {
  NOTHING_CHECKED,
  nextOrigin,
  planContinuation,
  planEnded,
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
  /** What its genesis names; a tenant's log alone. */
  readonly previous?: SignableLog['genesis']['previous'];
  readonly read: (plan: SigningPlan) => Promise<ReadTree | { readonly alarm: SigningAlarm }>;
  readonly store: (checkpoint: NewCheckpoint) => Promise<void>;
  readonly raise: (signedSize: bigint, alarm: SigningAlarm & { readonly note?: Buffer }) => Promise<void>;
}

const NO_META_LOG = 'there is no meta log: `edict ledger create edict` makes it';

/** Whoever restored the database knows what to do; everybody else must find out who did it. */
const remedyOf = ({ alarm }: SigningAlarm, tenant: string): string =>
  alarm === 'log_rewound' || alarm === 'log_forked'
    ? '; if the database was restored from an older copy: ' +
      `\`edict ledger resume ${tenant === META_KEY ? SYSTEM_TENANT : tenant} --reason …\``
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

  /** Whether every checkpoint was looked for once since the start: from then on the newest are enough. */
  let isListed = false;
  let metaOrigin: string | undefined;

  /** Once for each state of a log; again when it did not get through. */
  const raise = async (
    { tree, ...target }: Target,
    signedSize: bigint,
    alarm: SigningAlarm,
    note?: Buffer,
  ): Promise<void> => {
    const state = `${alarm.alarm}/${signedSize}`;
    if (raised.get(tree.origin) === state) return;
    metrics.alarms.inc({ alarm: alarm.alarm });
    logger.error(
      { origin: tree.origin, ...alarm, signed_size: String(signedSize) },
      `alarm${remedyOf(alarm, tree.tenant)}`,
    );
    await target.raise(signedSize, note === undefined ? alarm : { ...alarm, note });
    raised.set(tree.origin, state);
  };

  const refuse = async (target: Target, signedSize: bigint, alarm: SigningAlarm, note?: Buffer): Promise<void> => {
    refusals.set(target.tree.origin, alarmText(alarm, target.tree.tenant));
    await raise(target, signedSize, alarm, note);
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

  /** What was signed of a later incarnation than the newest in the database; undefined when there was none. */
  const newestOf = (log: SignableTree): { readonly alarm: SigningAlarm; readonly note: Buffer } | undefined => {
    const origin = nextOrigin(log);
    const next = memory.read(origin);
    if (next === undefined || next === 'unreadable') return undefined;
    const later = { ...log, origin, incarnation: log.incarnation + 1 };
    const { key, verifier } = keyOf(later);
    return (
      newestOf(later) ?? { ...planEnded(log, next), note: signCheckpoint({ origin, ...next.signed }, key, verifier) }
    );
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
    // Signed once already, so signing it again gives the same note.
    const newest = (): Buffer | undefined =>
      remembered === undefined
        ? undefined
        : signCheckpoint({ origin: log.origin, ...remembered.signed }, key, verifier);
    const ended = newestOf(log);
    if (ended !== undefined) return refuse(target, signedSize, ended.alarm, ended.note);
    const { previous } = target;
    const before = remembered !== undefined || previous === undefined ? undefined : memory.read(previous.origin);
    const plan =
      (before !== 'unreadable' && planContinuation(previous, before)) || planSigning(log, verifier, remembered);
    const note = newest();
    if (plan !== undefined && 'alarm' in plan) return refuse(target, signedSize, plan.alarm, note);
    // Stored as far as the memory knows, or it would be signed once more.
    const isStored = remembered?.base.size === signedSize;
    if (remembered !== undefined && note !== undefined && isStored && (log.checkpoint?.size ?? 0n) < signedSize)
      await putBack(target, remembered, note);
    if (plan === undefined) {
      refusals.delete(log.origin);
      return;
    }
    if (remembered === undefined && log.checkpoint !== undefined)
      logger.warn({ origin: log.origin }, 'no memory of a log that was signed: it is read from its first entry');
    const read = await target.read(plan);
    if ('alarm' in read) return refuse(target, signedSize, read.alarm, note);
    const { tree, root, nodes } = read;
    const base = remembered?.base ?? NOTHING_CHECKED;
    const signed: SigningMemory['signed'] = { size: tree.size, root };
    memory.write({ origin: log.origin, base, signed });
    const signedNote = signCheckpoint({ origin: log.origin, ...signed }, key, verifier);
    await target.store({ ...signed, note: signedNote, nodes, signedUs: nowUs() });
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
    ...(log.genesis.previous === undefined ? {} : { previous: log.genesis.previous }),
    raise: (signedSize, alarm) => store.raise(log.id, { ...alarm, signedSize, raisedUs: nowUs() }),
  });

  /** Each key is read once for all the checkpoints of its log. */
  const createVerifiers = (): VerifierOf => {
    const verifiers = new Map<string, VerifierKey | undefined>();
    const read = (log: Parameters<VerifierOf>[0]): VerifierKey | undefined => {
      try {
        return keyOf(log).verifier;
      } catch (error) {
        logger.warn({ err: error, origin: log.origin }, 'checkpoints cannot be checked without the log’s key');
        return undefined;
      }
    };
    return (log) => {
      const place = `${log.tenant}-${log.incarnation} ${log.origin}`;
      if (!verifiers.has(place)) verifiers.set(place, read(log));
      return verifiers.get(place);
    };
  };

  const metaTree = (meta: MetaLog, verifierOf: VerifierOf, closing: AbortSignal | undefined): Target => {
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
        readMetaTree(
          plan,
          (from, to) => {
            closing?.throwIfAborted();
            return store.leaves(incarnation, from, to);
          },
          verifierOf,
        ),
      store: (signed) => store.storeMeta(incarnation, signed),
      raise: (signedSize, { alarm, ...why }) =>
        store.raise(meta.alarmLogId, { alarm: `meta_${alarm}`, ...why, signedSize, raisedUs: nowUs() }),
    };
  };

  /** Whatever is no leaf yet becomes one, wherever an earlier signer was killed; whether there was something. */
  const listCheckpoints = async (
    { incarnation }: MetaLog,
    verifierOf: VerifierOf,
    closing: AbortSignal | undefined,
  ): Promise<boolean> => {
    for (let isNew = false; ; isNew = true) {
      closing?.throwIfAborted();
      // Also those of a log that is refused: what its key signed was signed before.
      const leaves = leavesOf(await store.unlisted(!isListed), verifierOf);
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
    metaOrigin = found.origin;
    // First what it is: leaves that were lost must not come back by themselves, in whatever order.
    const verifierOf = createVerifiers();
    await sign(metaTree(found, verifierOf, closing));
    if (refusals.has(found.origin) || !(await listCheckpoints(found, verifierOf, closing))) return;
    const meta = await store.metaLog();
    if (meta !== undefined) await sign(metaTree(meta, verifierOf, closing));
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
      // A log that goes on in a new incarnation is nobody's matter any more.
      const open = new Set([...logs.map(({ origin }) => origin), metaOrigin]);
      for (const origin of refusals.keys()) if (!open.has(origin)) refusals.delete(origin);
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

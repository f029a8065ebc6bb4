import { setTimeout as sleep } from 'node:timers/promises';
import { hex } from '../../shared/contracts/bytes.ts';
import { errorMessage } from '../../shared/contracts/errors.ts';
import type { Handle } from '../../shared/runtime/lifecycle.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { formatAddCheckpoint } from '../../shared/tlog/add-checkpoint.ts';
import type { Cosignature } from '../../shared/tlog/cosignature.ts';
import { witnessed, type Policy, type PolicyWitness } from '../../shared/tlog/policy.ts';
import { consistencyProof } from '../../shared/tlog/proofs.ts';
import type { MetaLog, SignerStore } from '../core/meta-log.ts';
import type { WitnessAlarm } from '../core/signing.ts';
import { readWitnessAnswer, type WitnessAnswer } from '../core/witness-answer.ts';
import { askWitness } from './ask-witness.ts';
import type { WitnessMetrics } from './metrics.ts';

/** A round that has no quorum by then gives way to the next checkpoint: who is slow holds up nobody else. */
const ROUND_MS = 5_000;
/** The same checkpoint is cosigned anew after this time, so that an idle log is not taken for a stale one. */
const REFRESH_MS = 600_000;
const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 300_000;
/** How long a checkpoint may lack a quorum before readiness says so. */
const GRACE_MS = 60_000;

export interface WitnessState {
  readonly witness: string;
  /** What it cosigned last; null before. */
  readonly size: string | null;
  readonly time: string | null;
  /** Why it did not cosign at the last attempt. */
  readonly failure: string | null;
}

export interface Witnesses extends Handle {
  readonly states: () => readonly WitnessState[];
  /** The largest checkpoint that enough of them cosigned. */
  readonly quorumSize: () => bigint;
  /** What an operator must know; undefined while all is well. */
  readonly trouble: () => string | undefined;
}

export interface WitnessOptions {
  readonly policy: Policy;
  readonly store: Pick<SignerStore, 'metaLog' | 'metaHashes' | 'attest' | 'raise'>;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly logger: Logger;
  readonly metrics: WitnessMetrics;
  readonly nowMs?: () => number;
}

/** One checkpoint that all witnesses are asked for, since cosignatures of different ones add up to no quorum. */
interface Round {
  readonly meta: MetaLog;
  readonly size: bigint;
  readonly note: Uint8Array;
  readonly sinceMs: number;
  readonly lines: string[];
  isQuorumReached: boolean;
}

interface Asked {
  readonly witness: PolicyWitness & { readonly url: string };
  /** The size that it has of the incarnation of `origin`. */
  origin: string;
  known: bigint;
  /** The round that it has answered. */
  done: Round | undefined;
  cosigned: { readonly size: bigint; readonly timeMs: number } | undefined;
  failure: string | undefined;
  failures: number;
  retryAtMs: number;
  /** What it contradicted last, so that an alarm is raised once. */
  contradicted: bigint | undefined;
  busy: Promise<void> | undefined;
}

/** Two keys may have one name. */
const sourceOf = ({ witness: { key } }: Asked): string => `${key.name}+${hex(key.keyId)}`;

/**
 * Sends each checkpoint of the meta log to the witnesses of a policy that have an address, beside the signer and never in
 * its way, and stores what they say. Each is asked by itself, with a time-out and growing pauses.
 */
export const startWitnesses = (options: WitnessOptions): Witnesses => {
  const { policy, store, intervalMs, timeoutMs, logger, metrics, nowMs = Date.now } = options;
  const closing = new AbortController();
  const asked: readonly Asked[] = policy.witnesses.flatMap(({ url, ...witness }) =>
    url === undefined
      ? []
      : [
          {
            witness: { ...witness, url },
            origin: '',
            known: 0n,
            done: undefined,
            cosigned: undefined,
            failure: undefined,
            failures: 0,
            retryAtMs: 0,
            contradicted: undefined,
            busy: undefined,
          },
        ],
  );
  let round: Round | undefined;
  let quorumSize = 0n;
  let lackingSinceMs: number | undefined;
  /** When a quorum was last reached, of whatever size. */
  let quorumAtMs: number | undefined;

  const raise = async (
    { witness, ...state }: Asked,
    alarm: WitnessAlarm,
    size: bigint,
    found: string,
  ): Promise<void> => {
    const meta = round?.meta;
    if (meta === undefined || state.contradicted === size) return;
    const what = `the tree of ${meta.origin} that is seen by witness ${witness.key.name}`;
    logger.error({ alarm, what, size: String(size) }, 'alarm');
    metrics.alarms.inc({ alarm });
    await store.raise(meta.alarmLogId, {
      alarm,
      what,
      expected: `this one, of size ${size}`,
      actual: found,
      signedSize: size,
      raisedUs: BigInt(nowMs()) * 1_000n,
    });
  };

  const keep = async (to: Asked, of: Round, { line, timeS }: Cosignature): Promise<void> => {
    const source = sourceOf(to);
    await store.attest(of.meta.incarnation, of.size, {
      kind: 'cosignature',
      source,
      timeMs: timeS * 1_000,
      bytes: Buffer.from(line, 'utf8'),
      storedUs: BigInt(nowMs()) * 1_000n,
    });
    to.cosigned = { size: of.size, timeMs: timeS * 1_000 };
    metrics.size.set({ witness: source }, Number(of.size));
    metrics.time.set({ witness: source }, timeS);
    of.lines.push(line);
    const all = Buffer.concat([of.note, Buffer.from(of.lines.join(''), 'utf8')]);
    of.isQuorumReached = witnessed(policy, all)?.isQuorumReached === true;
    if (!of.isQuorumReached) return;
    if (of.size > quorumSize) quorumSize = of.size;
    lackingSinceMs = undefined;
    quorumAtMs = nowMs();
    metrics.quorum.set(Number(quorumSize));
  };

  const askOnce = async (to: Asked, of: Round): Promise<WitnessAnswer> => {
    const { meta, size, note } = of;
    const { url, key } = to.witness;
    const proof =
      to.known > 0n
        ? await consistencyProof(to.known, size, (...range) => store.metaHashes(meta.incarnation, ...range))
        : [];
    const request = formatAddCheckpoint({ oldSize: to.known, proof, checkpoint: note });
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(timeoutMs)]);
    const response = await askWitness(url, request, signal);
    if (typeof response === 'string') return { kind: 'failed', reason: response };
    return readWitnessAnswer(response, { note, size, oldSize: to.known }, key, Math.floor(nowMs() / 1_000));
  };

  /** Undefined when it cosigned, or has a later checkpoint of ours; else why not. */
  const ask = async (to: Asked, of: Round): Promise<string | undefined> => {
    if (to.origin !== of.meta.origin) Object.assign(to, { origin: of.meta.origin, known: 0n });
    // Twice: the first answer may only say from where the proof must go.
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const answer = await askOnce(to, of);
      switch (answer.kind) {
        case 'cosigned':
          to.known = of.size;
          to.contradicted = undefined;
          await keep(to, of, answer.cosignature);
          return undefined;
        case 'has': {
          if (answer.size > of.size) {
            const newest = (await store.metaLog())?.checkpoint?.size ?? 0n;
            if (answer.size <= newest) {
              to.known = answer.size;
              return undefined;
            }
            await raise(to, 'meta_witness_ahead', newest, `one of size ${answer.size}`);
            to.contradicted = newest;
            return `has seen a tree of size ${answer.size}, this log has one of ${newest}`;
          }
          to.known = answer.size;
          break;
        }
        case 'contradicts':
          await raise(to, 'meta_split_view', of.size, 'another');
          to.contradicted = of.size;
          to.known = 0n;
          return 'has seen another tree of this log';
        case 'failed':
          return answer.reason;
        default:
          return answer satisfies never;
      }
    }
    return 'answers 409 to the size that it named';
  };

  const attempt = async (to: Asked, of: Round): Promise<void> => {
    let failure: string | undefined;
    try {
      failure = await ask(to, of);
    } catch (error) {
      failure = errorMessage(error);
    }
    if (closing.signal.aborted) return;
    to.done = failure === undefined ? of : undefined;
    to.failures = failure === undefined ? 0 : to.failures + 1;
    to.retryAtMs =
      failure === undefined ? 0 : nowMs() + Math.min(FIRST_RETRY_MS * 2 ** (to.failures - 1), MAX_RETRY_MS);
    const witness = sourceOf(to);
    if (failure !== undefined) metrics.failures.inc({ witness });
    if (failure !== to.failure) logger.info({ witness, failure }, failure === undefined ? 'cosigns' : 'does not');
    to.failure = failure;
  };

  const nextRound = (meta: MetaLog): Round | undefined => {
    const { checkpoint } = meta;
    if (checkpoint === undefined) return round;
    const now = nowMs();
    const age = round === undefined ? 0 : now - round.sinceMs;
    const isOver =
      round === undefined ||
      round.meta.origin !== meta.origin ||
      (checkpoint.size === round.size ? age >= REFRESH_MS : round.isQuorumReached || age >= ROUND_MS);
    return isOver ? { meta, ...checkpoint, sinceMs: now, lines: [], isQuorumReached: false } : round;
  };

  const tick = async (): Promise<void> => {
    const meta = await store.metaLog();
    if (meta === undefined) return;
    if (round !== undefined && round.meta.origin !== meta.origin) quorumSize = 0n;
    const current = nextRound(meta);
    round = current;
    if (current === undefined) return;
    if ((meta.checkpoint?.size ?? 0n) > quorumSize) lackingSinceMs ??= nowMs();
    for (const to of asked)
      if (to.busy === undefined && to.done !== current && nowMs() >= to.retryAtMs)
        to.busy = attempt(to, current).finally(() => {
          to.busy = undefined;
        });
  };

  const work = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      await tick().catch((error: unknown) => logger.debug({ err: error }, 'witnesses are asked later'));
      await sleep(intervalMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
    await Promise.all(asked.flatMap(({ busy }) => busy ?? []));
  };
  const working = work();

  return {
    states: () =>
      asked.map(({ witness, cosigned, failure }) => ({
        witness: witness.key.name,
        size: cosigned === undefined ? null : String(cosigned.size),
        time: cosigned === undefined ? null : new Date(cosigned.timeMs).toISOString(),
        failure: failure ?? null,
      })),
    quorumSize: () => quorumSize,
    trouble: () => {
      const liar = asked.find(({ contradicted }) => contradicted !== undefined);
      if (liar !== undefined) return `witness ${liar.witness.key.name} has seen another tree of the meta log`;
      const isOver = (sinceMs: number | undefined, forMs: number): boolean =>
        sinceMs !== undefined && nowMs() - sinceMs > forMs;
      // An idle log lacks no quorum, but the last one is renewed.
      const sinceMs = isOver(lackingSinceMs, GRACE_MS)
        ? lackingSinceMs
        : isOver(quorumAtMs, REFRESH_MS + GRACE_MS)
          ? quorumAtMs
          : undefined;
      return sinceMs === undefined
        ? undefined
        : `no quorum of witnesses has cosigned the meta log since ${new Date(sinceMs).toISOString()}`;
    },
    close: () => {
      closing.abort();
      return working;
    },
  };
};

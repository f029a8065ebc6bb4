import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  ARTIFACT_MAX_BYTES,
  ARTIFACT_PART_BYTES,
  partsOf,
  type Artifact,
  type ArtifactPart,
} from '../../shared/contracts/artifact.ts';
import { isAppError } from '../../shared/contracts/errors.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Boot } from './boot.ts';
import { MAX_SENT, readSent, writeSent, type Sent } from './sent-artifacts.ts';

export interface ArtifactStatus {
  /** Artifacts that are not sent to their end; by tenant and digest. */
  readonly waiting: number;
  /** Of their bytes, what is left. */
  readonly waitingBytes: number;
  /** Bytes that are kept in memory for them. */
  readonly heldBytes: number;
  /** Of them, those for which there is no room at the moment. */
  readonly withoutRoom: number;
  /** Too large, or too many waited, or its bytes were gone when it was its turn. */
  readonly dropped: number;
}

/** The bytes of an artifact, once more; undefined when nobody has them any more. */
export type BytesAgain = () => Uint8Array | undefined;

/** A part of a state that is an artifact of its own. */
export interface ArtifactNode {
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
  readonly bytes: () => Uint8Array;
}

/** The nodes of a state that are not `given` yet, and now are, its root last. */
export type NodesOfState = (given: WeakSet<object>) => Iterable<ArtifactNode>;

export interface ArtifactQueue {
  /**
   * Takes an artifact to be sent, unless the tenant's was sent, or waits, already. Nothing is copied. Its bytes are kept
   * only while all that are kept are not too many; else `again` is asked for them when it is the artifact's turn.
   */
  readonly add: (tenant: string, artifact: Artifact, again?: BytesAgain) => void;
  /**
   * Takes what a state is made of, to be sent unless its root was sent, which means that all of it was. Of each tenant
   * goes one after the other, a root after all of its nodes. The bytes are made when it is their turn. When too much
   * waits, states that wait are dropped whole, and this one is asked for all its nodes; `nodes` is kept for that until
   * the tenant's next state.
   */
  readonly addState: (tenant: string, root: string, nodes: NodesOfState) => void;
  /**
   * Appends parts of states, of one tenant or of all, at once, where there is room: another state may take this one's
   * place before the next tick, and nobody has it then but the spool.
   */
  readonly sendStates: (boot: Boot, maxBytes: number, tenant?: string) => void;
  /** Appends some parts, each in a turn of its own, where there is room. Never throws but for faults of ours. */
  readonly send: (current: () => Boot | undefined) => Promise<void>;
  readonly status: () => ArtifactStatus;
  /** Waits for what is being written down. */
  readonly close: () => Promise<void>;
}

export interface ArtifactQueueOptions {
  /** Where it is written down what was sent: a file of the slot. */
  readonly file: () => string;
  /** Room of the spool and of the tenant that is left to decisions. */
  readonly keepFreeBytes: (tenant: string) => number;
  readonly nowMs: () => number;
  readonly logger: Logger;
}

/** At five ticks a second some 5 MB a second, and a turn of about two milliseconds for each part at most. */
const BYTES_A_TICK = 4 * ARTIFACT_PART_BYTES;
/** As what a part counts at least. */
const LEAST_BYTES = 16 * 1024;
/** Of some hundred bytes each. */
const MAX_WAITING = 65_536;
/** Of one tenant: more than the largest state has nodes. */
const MAX_WAITING_OF_TENANT = 16_384;
/** At how many tenants a tick looks, and at how many artifacts of each; the next one looks at others. */
const LOOKS_A_TICK = 1_024;
const LOOKS_A_TENANT = 64;
/** What waiting nodes of states may keep alive, of one tenant and of all. */
const MAX_STATE_BYTES_OF_TENANT = ARTIFACT_MAX_BYTES;
const MAX_STATE_BYTES = 4 * ARTIFACT_MAX_BYTES;
/** Kept for those that wait: as much as the largest has. */
const MAX_HELD_BYTES = ARTIFACT_MAX_BYTES;
/** Tenants that are remembered. What is forgotten is sent once more. */
const MAX_TENANTS = 4_096;
/** What an event is larger than its base64 content, generously. */
const ENVELOPE_BYTES = 4_096;

interface Job {
  readonly tenant: string;
  readonly artifact: Omit<Artifact, 'bytes'>;
  readonly size: number;
  readonly again: BytesAgain;
  /** The digest that is remembered: its own, or that of the state that it is a part of. */
  readonly whole: string;
  readonly isOfState: boolean;
  /** It has a share in the bytes that are held. */
  isHolding: boolean;
  /** Parts that were appended in the boot. */
  done: number;
  boot: Boot | undefined;
  isWithoutRoom: boolean;
  /** Appended to its end; it counts as sent when the disk has it. */
  isAppended: boolean;
}

/** What waits of a tenant, by digest. */
interface Queue {
  readonly tenant: string;
  readonly wholes: Map<string, Job>;
  readonly states: Map<string, Job>;
  stateBytes: number;
}

interface TenantState {
  readonly root: string;
  readonly nodes: NodesOfState;
  /** Sent, or waiting. Emptied when what waits is dropped. */
  given: WeakSet<object>;
}

/**
 * Sends the bytes that activations name, once for each tenant and digest, in parts, behind decisions: a part is appended
 * only where the spool and the tenant's quota have room to spare. What has no room waits and is told; a new boot begins
 * an artifact anew that the one before did not finish.
 */
export const createArtifactQueue = (options: ArtifactQueueOptions): ArtifactQueue => {
  const { nowMs, logger } = options;
  /** Of tenants of whom something waits, in a circle. */
  const queues = new Map<string, Queue>();
  let waiting = 0;
  let stateBytes = 0;
  const latest = new Map<string, TenantState>();
  /** Bytes by digest, and how many jobs need them: many tenants may have the same bundle. */
  const held = new Map<string, { readonly bytes: Uint8Array; jobs: number }>();
  let heldBytes = 0;
  let dropped = 0;
  let known: { readonly emitter: string; readonly sent: Sent } | undefined;
  let writing: Promise<void> | undefined;
  let isUnwritten = false;

  const queueOf = (tenant: string): Queue =>
    queues.get(tenant) ?? { tenant, wholes: new Map(), states: new Map(), stateBytes: 0 };
  const jobsOf = (queue: Queue, { isOfState }: Pick<Job, 'isOfState'>): Map<string, Job> =>
    isOfState ? queue.states : queue.wholes;
  const isWaiting = (job: Job): boolean => jobsOf(queueOf(job.tenant), job).get(job.artifact.digest) === job;

  const wasSent = ({ tenant, whole, isOfState }: Pick<Job, 'tenant' | 'whole' | 'isOfState'>): boolean =>
    known?.sent[isOfState ? 'states' : 'wholes'].get(tenant)?.includes(whole) === true;

  /** Keeps the bytes where there is room for them, or where another job keeps them. */
  const hold = (job: Job, bytes: Uint8Array): void => {
    const { digest } = job.artifact;
    const found = held.get(digest);
    if (found === undefined) {
      if (heldBytes + bytes.length > MAX_HELD_BYTES) return;
      held.set(digest, { bytes, jobs: 1 });
      heldBytes += bytes.length;
    } else found.jobs += 1;
    job.isHolding = true;
  };

  const bytesOf = (job: Job): Uint8Array | undefined => {
    const bytes = held.get(job.artifact.digest)?.bytes ?? job.again();
    // Most nodes are one part: they are made once.
    if (bytes !== undefined && !job.isHolding && job.size > ARTIFACT_PART_BYTES) hold(job, bytes);
    return bytes;
  };

  const remove = (job: Job): void => {
    const { digest } = job.artifact;
    if (!isWaiting(job)) return;
    const queue = queueOf(job.tenant);
    jobsOf(queue, job).delete(digest);
    waiting -= 1;
    if (job.isOfState) {
      queue.stateBytes -= job.size;
      stateBytes -= job.size;
    }
    if (queue.wholes.size + queue.states.size === 0) queues.delete(job.tenant);
    if (!job.isHolding) return;
    const found = held.get(digest);
    if (found === undefined) return;
    found.jobs -= 1;
    if (found.jobs > 0) return;
    held.delete(digest);
    heldBytes -= found.bytes.length;
  };

  const put = (job: Job): void => {
    const queue = queueOf(job.tenant);
    queues.set(job.tenant, queue);
    jobsOf(queue, job).set(job.artifact.digest, job);
    waiting += 1;
    if (!job.isOfState) return;
    queue.stateBytes += job.size;
    stateBytes += job.size;
  };

  const drop = (tenant: string, digest: string, why: string): void => {
    dropped += 1;
    logger.error({ tenant, digest, why }, 'an artifact is not sent');
  };

  /** Later states lean on the nodes of earlier ones: all that wait go, and the next one is asked for all of its nodes. */
  const forgetStates = (tenant: string): ReadonlySet<string> => {
    const roots = new Set<string>();
    for (const job of queueOf(tenant).states.values()) {
      roots.add(job.whole);
      remove(job);
    }
    const state = latest.get(tenant);
    if (state !== undefined) state.given = new WeakSet();
    return roots;
  };

  const writeDown = async (): Promise<void> => {
    while (isUnwritten && known !== undefined) {
      isUnwritten = false;
      await writeSent(options.file(), known.emitter, known.sent).catch((error: unknown) =>
        logger.warn({ err: error }, 'which artifacts were sent could not be written down; a restart sends them again'),
      );
    }
    writing = undefined;
  };

  const remember = ({ tenant, whole, isOfState }: Job, { identity }: Boot): void => {
    if (known?.emitter !== identity.emitter) return;
    const sent = known.sent[isOfState ? 'states' : 'wholes'];
    const digests = [...(sent.get(tenant) ?? []).filter((digest) => digest !== whole), whole].slice(-MAX_SENT);
    // The tenant that was sent something last is forgotten last.
    sent.delete(tenant);
    sent.set(tenant, digests);
    for (const oldest of sent.keys()) {
      if (sent.size <= MAX_TENANTS) break;
      sent.delete(oldest);
    }
    // What comes while a file is written goes into the next one together.
    isUnwritten = true;
    writing ??= writeDown();
  };

  /** Appends the next part. False: there is no room, or the boot has ended. A job whose bytes are gone goes. */
  const append = (job: Job, boot: Boot): boolean => {
    const { tenant, artifact } = job;
    const { digest, mediaType } = artifact;
    const start = job.done * ARTIFACT_PART_BYTES;
    const partBytes = Math.min(ARTIFACT_PART_BYTES, job.size - start);
    const eventBytes = Math.ceil(partBytes / 3) * 4 + ENVELOPE_BYTES;
    if (boot.writer.room(tenant, eventBytes + options.keepFreeBytes(tenant), false) !== 'ok') return false;
    const bytes = bytesOf(job);
    // Another set may have the same bundle in another archive, with another signature: parts of two are none of either.
    if (bytes?.length !== job.size) {
      if (job.isOfState) forgetStates(tenant);
      remove(job);
      drop(tenant, digest, 'another version is active by now, and there was no room to keep this one');
      return true;
    }
    const part = bytes.subarray(start, start + partBytes);
    const parts = partsOf(bytes.length);
    const described: ArtifactPart = { digest, media_type: mediaType, bytes: bytes.length, part: job.done + 1, parts };
    const content = Buffer.from(part.buffer, part.byteOffset, part.length).toString('base64');
    const time = nowMs();
    const head = { id: newUuidV7(time), type: 'edict.artifact.v1', timeMs: time } as const;
    const { number } = boot.append(tenant, head, `"artifact":${JSON.stringify(described)},"content":"${content}"`);
    job.done += 1;
    if (job.done < parts) return true;
    job.isAppended = true;
    boot.writer.whenSynced(number).then(
      () => {
        // Dropped and taken anew, or of another boot by now: that one is told by its own.
        if (job.boot !== boot) return;
        const isWhole = job.whole === digest;
        if (isWhole) remember(job, boot);
        remove(job);
        logger[isWhole ? 'info' : 'debug']({ tenant, digest, bytes: bytes.length, parts }, 'artifact sent');
      },
      // The boot ended, or the disk is slow: it is not known whether it lasts, so it is sent again.
      () => {
        if (job.boot !== boot) return;
        job.isAppended = false;
        job.boot = undefined;
      },
    );
    return true;
  };

  const attempt = (job: Job, boot: Boot): boolean => {
    if (job.boot !== boot) {
      job.boot = boot;
      job.done = 0;
      job.isAppended = false;
    }
    try {
      return append(job, boot);
    } catch (error) {
      if (!isAppError(error) || (error.code !== 'spool_full' && error.code !== 'spool_failed')) throw error;
      return false;
    }
  };

  const noteRoom = (job: Job, hasRoom: boolean): void => {
    const { tenant, artifact } = job;
    if (!hasRoom && !job.isWithoutRoom)
      logger.warn(
        { tenant, digest: artifact.digest, bytes: job.size, parts_sent: job.done },
        'the spool has no room to spare for an artifact: it waits, and decisions go on',
      );
    job.isWithoutRoom = !hasRoom;
  };

  const BEGUN = { isHolding: false, done: 0, boot: undefined, isWithoutRoom: false, isAppended: false } as const;

  const hasPlace = (tenant: string, more: number): boolean => {
    const { wholes, states } = queueOf(tenant);
    return waiting + more <= MAX_WAITING && wholes.size + states.size + more <= MAX_WAITING_OF_TENANT;
  };

  /** False, and nothing is taken: it cannot be held. */
  const takeState = (tenant: string, { root, nodes, given }: TenantState): boolean => {
    const queue = queueOf(tenant);
    const isSent = wasSent({ tenant, whole: root, isOfState: true });
    const taken = new Map<string, Job>();
    let bytes = 0;
    for (const { digest, mediaType, size, bytes: again } of nodes(given)) {
      if (isSent || queue.states.has(digest) || taken.has(digest)) continue;
      bytes += size;
      if (
        size === 0 ||
        size > ARTIFACT_MAX_BYTES ||
        queue.stateBytes + bytes > MAX_STATE_BYTES_OF_TENANT ||
        stateBytes + bytes > MAX_STATE_BYTES ||
        !hasPlace(tenant, taken.size + 1)
      )
        return false;
      taken.set(digest, {
        tenant,
        artifact: { digest, mediaType },
        size,
        again,
        whole: root,
        isOfState: true,
        ...BEGUN,
      });
    }
    for (const job of taken.values()) put(job);
    return true;
  };

  const takeLatest = (tenant: string): void => {
    const state = latest.get(tenant);
    if (state === undefined || takeState(tenant, state)) return;
    // The newest is worth more than those before it.
    for (const root of forgetStates(tenant)) drop(tenant, root, 'too much waits: a newer state took its place');
    if (takeState(tenant, state)) return;
    forgetStates(tenant);
    drop(tenant, state.root, 'the state is too large, or too much waits');
  };

  /** What another emitter sent says nothing about this one's. */
  const adopt = ({ identity: { emitter } }: Boot): void => {
    if (known?.emitter === emitter) return;
    const isFirst = known === undefined;
    known = { emitter, sent: readSent(options.file(), emitter) };
    if (isFirst) return;
    for (const tenant of latest.keys()) {
      forgetStates(tenant);
      takeLatest(tenant);
    }
  };

  /** Of one part. */
  const costOf = ({ size }: Job): number => Math.min(ARTIFACT_PART_BYTES, Math.max(size, LEAST_BYTES));

  /** What the first job that has room cost; 0: there is none. A state without room holds back those behind it. */
  const sendPart = (jobs: Map<string, Job>, boot: Boot): number => {
    let looks = 0;
    for (const job of jobs.values()) {
      if (looks === LOOKS_A_TENANT) break;
      if (!isWaiting(job) || (job.isAppended && job.boot === boot)) continue;
      if (wasSent(job)) {
        remove(job);
        continue;
      }
      const hasRoom = attempt(job, boot);
      noteRoom(job, hasRoom);
      if (hasRoom) return costOf(job);
      if (job.isOfState) break;
      looks += 1;
      if (jobs.size > LOOKS_A_TENANT) {
        jobs.delete(job.artifact.digest);
        jobs.set(job.artifact.digest, job);
      }
    }
    return 0;
  };

  /** The tenant whose turn it is; it is the last one then. */
  const nextQueue = (): Queue | undefined => {
    for (const [tenant, queue] of queues) {
      queues.delete(tenant);
      queues.set(tenant, queue);
      return queue;
    }
    return undefined;
  };

  return {
    add(tenant, { digest, mediaType, bytes }, again = () => undefined) {
      const artifact = { digest, mediaType };
      const job: Job = { tenant, artifact, size: bytes.length, again, whole: digest, isOfState: false, ...BEGUN };
      // What was sent is known once a boot began; `send` looks again.
      if (queueOf(tenant).wholes.has(digest) || wasSent(job)) return;
      if (job.size === 0 || job.size > ARTIFACT_MAX_BYTES) return drop(tenant, digest, `it has ${job.size} bytes`);
      if (!hasPlace(tenant, 1)) return drop(tenant, digest, 'too many wait');
      put(job);
      hold(job, bytes);
    },
    addState(tenant, root, nodes) {
      latest.set(tenant, { root, nodes, given: latest.get(tenant)?.given ?? new WeakSet() });
      takeLatest(tenant);
    },
    sendStates(boot, maxBytes, tenant) {
      adopt(boot);
      let left = maxBytes;
      let idle = 0;
      while (left > 0 && idle < (tenant === undefined ? queues.size : 1)) {
        const queue = tenant === undefined ? nextQueue() : queues.get(tenant);
        const cost = queue === undefined ? 0 : sendPart(queue.states, boot);
        left -= cost;
        idle = cost === 0 ? idle + 1 : 0;
      }
    },
    async send(current) {
      let left = BYTES_A_TICK;
      let idle = 0;
      for (let looks = 0; looks < LOOKS_A_TICK && left > 0 && idle < queues.size; looks += 1) {
        const boot = current();
        if (boot === undefined) return;
        adopt(boot);
        const queue = nextQueue();
        if (queue === undefined) return;
        const cost = sendPart(queue.wholes, boot) + sendPart(queue.states, boot);
        left -= cost;
        idle = cost === 0 ? idle + 1 : 0;
        if (cost > 0) await nextTurn();
      }
    },
    status: () => {
      let [waitingBytes, withoutRoom] = [0, 0];
      for (const { wholes, states } of queues.values())
        for (const { isAppended, isWithoutRoom, size, done } of [...wholes.values(), ...states.values()]) {
          if (!isAppended) waitingBytes += Math.max(0, size - done * ARTIFACT_PART_BYTES);
          if (isWithoutRoom) withoutRoom += 1;
        }
      return { waiting, waitingBytes, heldBytes: heldBytes + stateBytes, withoutRoom, dropped };
    },
    async close() {
      await writing;
    },
  };
};

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  ARTIFACT_MAX_BYTES,
  ARTIFACT_PART_BYTES,
  isArtifactDigest,
  partsOf,
  type Artifact,
  type ArtifactPart,
} from '../../shared/contracts/artifact.ts';
import { isAppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Boot } from './boot.ts';

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

export interface ArtifactQueue {
  /**
   * Takes an artifact to be sent, unless the tenant's was sent, or waits, already. Nothing is copied. Its bytes are kept
   * only while all that are kept are not too many; else `again` is asked for them when it is the artifact's turn.
   */
  readonly add: (tenant: string, artifact: Artifact, again?: BytesAgain) => void;
  /**
   * Takes what a state is made of, its root last, to be sent unless that root was sent, which means that all of it was.
   * The bytes are made when it is their turn, and only roots are remembered.
   */
  readonly addState: (tenant: string, root: string, nodes: Iterable<ArtifactNode>) => void;
  /**
   * Appends parts of states at once, where there is room: another state may take this one's place before the next tick,
   * and nobody has it then but the spool.
   */
  readonly sendStates: (boot: Boot, maxBytes: number) => void;
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
/** How many of those that wait a tick looks at; the next one looks at others. */
const LOOKS_A_TICK = 1_024;
/** Kept for those that wait: as much as the largest has. */
const MAX_HELD_BYTES = ARTIFACT_MAX_BYTES;
/** Remembered digests of one tenant, the newest; and tenants. What is forgotten is sent once more. */
const MAX_SENT = 64;
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

type Sent = Map<string, readonly string[]>;

/** What the file says; a file that says nothing, or is another emitter's, means that nothing was sent. */
const readSent = (file: string, emitter: string): Sent => {
  try {
    const document: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (!isObject(document) || document['emitter'] !== emitter || !isObject(document['sent'])) return new Map();
    return new Map(
      Object.entries(document['sent']).map(([tenant, digests]) => [
        tenant,
        (Array.isArray(digests) ? digests : []).filter(isArtifactDigest).slice(-MAX_SENT),
      ]),
    );
  } catch {
    return new Map();
  }
};

/** Half of it is no file at all, and a power cut may take it: then the artifacts are sent once more, which does no harm. */
const writeSent = async (file: string, emitter: string, sent: Sent): Promise<void> => {
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  await writeFile(temporary, JSON.stringify({ emitter, sent: Object.fromEntries(sent) }), { mode: 0o600, flag: 'wx' });
  await rename(temporary, file);
};

/**
 * Sends the bytes that activations name, once for each tenant and digest, in parts, behind decisions: a part is appended
 * only where the spool and the tenant's quota have room to spare. What has no room waits and is told; a new boot begins
 * an artifact anew that the one before did not finish.
 */
export const createArtifactQueue = (options: ArtifactQueueOptions): ArtifactQueue => {
  const { nowMs, logger } = options;
  /** By tenant and digest. */
  const jobs = new Map<string, Job>();
  /** Bytes by digest, and how many jobs need them: many tenants may have the same bundle. */
  const held = new Map<string, { readonly bytes: Uint8Array; jobs: number }>();
  let heldBytes = 0;
  let dropped = 0;
  let known: { readonly emitter: string; readonly sent: Sent } | undefined;
  let writing: Promise<void> = Promise.resolve();

  const sentBy = (emitter: string): Sent => {
    if (known?.emitter !== emitter) known = { emitter, sent: readSent(options.file(), emitter) };
    return known.sent;
  };

  const keyOf = ({ tenant, artifact }: Pick<Job, 'tenant' | 'artifact'>): string => `${tenant} ${artifact.digest}`;

  const wasSent = (sent: Sent | undefined, { tenant, whole }: Pick<Job, 'tenant' | 'whole'>): boolean =>
    sent?.get(tenant)?.includes(whole) === true;

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
    if (bytes !== undefined && !job.isHolding) hold(job, bytes);
    return bytes;
  };

  const remove = (job: Job): void => {
    if (!jobs.delete(keyOf(job)) || !job.isHolding) return;
    const { digest } = job.artifact;
    const found = held.get(digest);
    if (found === undefined) return;
    found.jobs -= 1;
    if (found.jobs > 0) return;
    held.delete(digest);
    heldBytes -= found.bytes.length;
  };

  const drop = ({ tenant, artifact: { digest } }: Pick<Job, 'tenant' | 'artifact'>, why: string): void => {
    dropped += 1;
    logger.error({ tenant, digest, why }, 'an artifact is not sent');
  };

  const remember = ({ tenant, artifact }: Job, { identity }: Boot): void => {
    const sent = sentBy(identity.emitter);
    const digests = [...(sent.get(tenant) ?? []), artifact.digest].slice(-MAX_SENT);
    // The tenant that was sent something last is forgotten last.
    sent.delete(tenant);
    sent.set(tenant, digests);
    for (const oldest of sent.keys()) {
      if (sent.size <= MAX_TENANTS) break;
      sent.delete(oldest);
    }
    const file = options.file();
    writing = writing
      .then(() => writeSent(file, identity.emitter, sent))
      .catch((error: unknown) =>
        logger.warn({ err: error }, 'which artifacts were sent could not be written down; a restart sends them again'),
      );
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
      remove(job);
      drop(job, 'another version is active by now, and there was no room to keep this one');
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
        const isWhole = job.whole === digest;
        if (isWhole) remember(job, boot);
        remove(job);
        logger[isWhole ? 'info' : 'debug']({ tenant, digest, bytes: bytes.length, parts }, 'artifact sent');
      },
      // The boot ended, or the disk is slow: it is not known whether it lasts, so it is sent again.
      () => {
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

  const firstJobs = (): readonly Job[] => {
    const first: Job[] = [];
    for (const job of jobs.values()) {
      if (first.length === LOOKS_A_TICK) break;
      first.push(job);
    }
    return first;
  };
  const toTheEnd = (job: Job): void => {
    jobs.delete(keyOf(job));
    jobs.set(keyOf(job), job);
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

  /** False: it is not needed, or dropped. */
  const enqueue = (job: Job): boolean => {
    // What was sent is known once a boot began; `send` looks again.
    if (jobs.has(keyOf(job)) || wasSent(known?.sent, job)) return false;
    if (job.size === 0 || job.size > ARTIFACT_MAX_BYTES) drop(job, `it has ${job.size} bytes`);
    else if (jobs.size >= MAX_WAITING) drop(job, 'too many wait');
    else {
      jobs.set(keyOf(job), job);
      return true;
    }
    return false;
  };

  /** Of one part. */
  const costOf = ({ size }: Job): number => Math.min(ARTIFACT_PART_BYTES, Math.max(size, LEAST_BYTES));

  return {
    add(tenant, { digest, mediaType, bytes }, again = () => undefined) {
      const artifact = { digest, mediaType };
      const job: Job = { tenant, artifact, size: bytes.length, again, whole: digest, isOfState: false, ...BEGUN };
      if (enqueue(job)) hold(job, bytes);
    },
    addState(tenant, root, nodes) {
      const before = dropped;
      for (const { digest, mediaType, size, bytes } of nodes) {
        const artifact = { digest, mediaType };
        // Where the root is, all is.
        if (digest === root && dropped > before) return drop({ tenant, artifact }, 'a part of it was dropped');
        enqueue({ tenant, artifact, size, again: bytes, whole: root, isOfState: true, ...BEGUN });
      }
    },
    sendStates(boot, maxBytes) {
      let left = maxBytes;
      for (const job of jobs.values()) {
        if (!job.isOfState) continue;
        if (wasSent(sentBy(boot.identity.emitter), job)) remove(job);
        while (jobs.has(keyOf(job)) && !(job.isAppended && job.boot === boot)) {
          if (left <= 0 || !attempt(job, boot)) return;
          left -= costOf(job);
        }
      }
    },
    async send(current) {
      let left = BYTES_A_TICK;
      const withoutRoom = new Set<string>();
      for (const job of firstJobs()) {
        const state = `${job.tenant} ${job.whole}`;
        // A root goes after all else of its state.
        if (withoutRoom.has(state)) continue;
        const began = current();
        if (began === undefined) return;
        if (wasSent(sentBy(began.identity.emitter), job)) {
          remove(job);
          continue;
        }
        while (left > 0 && jobs.has(keyOf(job)) && !(job.isAppended && job.boot === current())) {
          const boot = current();
          if (boot === undefined) return;
          const hasRoom = attempt(job, boot);
          noteRoom(job, hasRoom);
          if (!hasRoom) {
            withoutRoom.add(state);
            if (jobs.size > LOOKS_A_TICK && !job.isOfState) toTheEnd(job);
            break;
          }
          left -= costOf(job);
          await nextTurn();
        }
        if (left <= 0) return;
      }
    },
    status: () => {
      let [waitingBytes, withoutRoom] = [0, 0];
      for (const { isAppended, isWithoutRoom, size, done } of jobs.values()) {
        if (!isAppended) waitingBytes += Math.max(0, size - done * ARTIFACT_PART_BYTES);
        if (isWithoutRoom) withoutRoom += 1;
      }
      return { waiting: jobs.size, waitingBytes, heldBytes, withoutRoom, dropped };
    },
    close: () => writing,
  };
};

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
  /** Of them, those for which there is no room at the moment. */
  readonly withoutRoom: number;
  /** Too large, or too many waited; they are tried again when they are activated again. */
  readonly dropped: number;
}

export interface ArtifactQueue {
  /** Takes an artifact to be sent, unless the tenant's was sent, or waits, already. Nothing is copied. */
  readonly add: (tenant: string, artifact: Artifact) => void;
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

/** At five ticks a second some 5 MB a second, and a turn of about two milliseconds each. */
const PARTS_A_TICK = 4;
const MAX_WAITING = 1_024;
/** Remembered digests of one tenant, the newest; and tenants. What is forgotten is sent once more. */
const MAX_SENT = 64;
const MAX_TENANTS = 4_096;
/** What an event is larger than its base64 content, generously. */
const ENVELOPE_BYTES = 4_096;

interface Job {
  readonly tenant: string;
  readonly artifact: Artifact;
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
  let jobs: readonly Job[] = [];
  let dropped = 0;
  let known: { readonly emitter: string; readonly sent: Sent } | undefined;
  let writing: Promise<void> = Promise.resolve();

  const sentBy = (emitter: string): Sent => {
    if (known?.emitter !== emitter) known = { emitter, sent: readSent(options.file(), emitter) };
    return known.sent;
  };

  const remove = (job: Job): void => {
    jobs = jobs.filter((other) => other !== job);
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

  /** Appends the next part. False: there is no room, or the boot has ended. */
  const append = (job: Job, boot: Boot): boolean => {
    const { tenant, artifact } = job;
    const { digest, mediaType, bytes } = artifact;
    const start = job.done * ARTIFACT_PART_BYTES;
    const part = bytes.subarray(start, start + ARTIFACT_PART_BYTES);
    const eventBytes = Math.ceil(part.length / 3) * 4 + ENVELOPE_BYTES;
    if (boot.writer.room(tenant, eventBytes + options.keepFreeBytes(tenant), false) !== 'ok') return false;
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
        remember(job, boot);
        remove(job);
        logger.info({ tenant, digest, bytes: bytes.length, parts }, 'artifact sent');
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

  const noteRoom = (job: Job, hasRoom: boolean): void => {
    const { tenant, artifact } = job;
    if (!hasRoom && !job.isWithoutRoom)
      logger.warn(
        { tenant, digest: artifact.digest, bytes: artifact.bytes.length, parts_sent: job.done },
        'the spool has no room to spare for an artifact: it waits, and decisions go on',
      );
    job.isWithoutRoom = !hasRoom;
  };

  return {
    add(tenant, artifact) {
      const { digest, bytes } = artifact;
      const isWaiting = jobs.some((job) => job.tenant === tenant && job.artifact.digest === digest);
      if (isWaiting) return;
      if (bytes.length === 0 || bytes.length > ARTIFACT_MAX_BYTES || jobs.length >= MAX_WAITING) {
        dropped += 1;
        logger.error({ tenant, digest, bytes: bytes.length }, 'an artifact is not sent: too large, or too many wait');
        return;
      }
      jobs = [...jobs, { tenant, artifact, done: 0, boot: undefined, isWithoutRoom: false, isAppended: false }];
    },
    async send(current) {
      let left = PARTS_A_TICK;
      for (const job of jobs) {
        const began = current();
        if (began === undefined) return;
        if (sentBy(began.identity.emitter).get(job.tenant)?.includes(job.artifact.digest) === true) {
          remove(job);
          continue;
        }
        while (left > 0 && !(job.isAppended && job.boot === current())) {
          const boot = current();
          if (boot === undefined) return;
          const hasRoom = attempt(job, boot);
          noteRoom(job, hasRoom);
          if (!hasRoom) break;
          left -= 1;
          await nextTurn();
        }
        if (left === 0) return;
      }
    },
    status: () => {
      const waiting = jobs.filter(({ isAppended }) => !isAppended);
      return {
        waiting: jobs.length,
        waitingBytes: waiting.reduce(
          (sum, { artifact, done }) => sum + Math.max(0, artifact.bytes.length - done * ARTIFACT_PART_BYTES),
          0,
        ),
        withoutRoom: jobs.filter(({ isWithoutRoom }) => isWithoutRoom).length,
        dropped,
      };
    },
    close: () => writing,
  };
};

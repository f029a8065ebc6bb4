import { readFileSync } from 'node:fs';
import type { Consumer, Kafka } from 'kafkajs';
import { parseAck } from '../../shared/contracts/ack.ts';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { ACKS_TOPIC } from '../../shared/contracts/events.ts';
import { parseVkey, type VerifierKey } from '../../shared/contracts/signatures.ts';
import { keepReading } from '../../shared/kafka/reading.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { PrepareReload } from '../../shared/runtime/reload.ts';
import { homePaths } from '../../shared/settings/home.ts';
import type { Settings } from '../../shared/settings/schema.ts';
import { readAckFile } from '../../shared/spool/ack-file.ts';
import { listSpools } from '../../shared/spool/slots.ts';
import type { AckBook } from './ack-book.ts';

export interface AckSource {
  /** Looks for new acks, and for new spools whose acks count. */
  readonly poll: () => void;
  readonly status: () => { readonly refused: number; readonly failure?: string };
  readonly close: () => Promise<void>;
}

export interface AckKeys {
  /** The keys of the audit services whose acks count; another array when they changed. */
  readonly current: () => readonly VerifierKey[];
  /** Reads the files that were named at the start again. */
  readonly reload: PrepareReload;
  readonly files: readonly string[];
}

const readAckKeys = (files: readonly string[], isOptional: boolean): readonly VerifierKey[] =>
  files.flatMap((file) => {
    try {
      return readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line.trim() !== '')
        .map(parseVkey);
    } catch (cause) {
      if (isOptional && errorCode(cause) === 'ENOENT') return [];
      throw new AppError('settings_invalid', `${file}: ${errorMessage(cause)}`, { cause });
    }
  });

/**
 * The verifier keys in `audit.ack_vkey_files`, one a line, else the one that the audit service on the same machine makes
 * at its first start: it is looked for until it is there. Throws `settings_invalid`.
 */
export const createAckKeys = ({ home, audit }: Pick<Settings, 'home' | 'audit'>): AckKeys => {
  const isOptional = audit.ack_vkey_files.length === 0;
  const files = isOptional ? [homePaths(home).ackVkey] : audit.ack_vkey_files;
  // Named files must be there now, not when the first ack comes.
  let keys = readAckKeys(files, isOptional);
  return {
    files,
    current() {
      if (keys.length === 0) keys = readAckKeys(files, isOptional);
      return keys;
    },
    reload: () => {
      const next = readAckKeys(files, isOptional);
      const isSame = next.length === keys.length && next.every(({ key }, n) => keys[n]?.key.equals(key));
      return () => {
        if (!isSame) keys = next;
      };
    },
  };
};

/** Acks from the files of an audit service on this machine. */
export const createFileAckSource = (options: {
  readonly home: string;
  readonly acks: AckBook;
  readonly keys: AckKeys['current'];
  readonly nowMs: () => number;
  readonly logger: Logger;
}): AckSource => {
  const { home, acks, logger } = options;
  const versions = new Map<string, string>();
  let refused = 0;
  let failure: string | undefined;
  let keys: readonly VerifierKey[] = [];
  return {
    poll() {
      try {
        const trusted = options.keys();
        // What was refused may count now, and the other way round.
        if (trusted !== keys) versions.clear();
        keys = trusted;
        if (keys.length === 0) return;
        for (const { emitter } of listSpools(home).spools) {
          const content = readAckFile(home, emitter, keys, versions.get(emitter));
          if (content === undefined) continue;
          versions.set(emitter, content.version);
          refused += content.refused;
          if (content.refused > 0) logger.warn({ emitter, refused: content.refused }, 'acks that are not trusted');
          acks.replace(emitter, content.acks, options.nowMs());
        }
        failure = undefined;
      } catch (error) {
        const text = errorMessage(error);
        if (text !== failure) logger.warn({ err: error }, 'acks cannot be read');
        failure = text;
      }
    },
    status: () => ({ refused, ...(failure === undefined ? {} : { failure }) }),
    close: () => Promise.resolve(),
  };
};

const MAX_ACK_BYTES = 64 * 1024;

/**
 * Acks from the compacted topic, from its beginning, through a consumer group of this process alone. Those of emitters
 * without a spool under `home` are passed over: they are of no use here, and there may be any number of them.
 */
export const createKafkaAckSource = (options: {
  readonly home: string;
  readonly kafka: Kafka;
  readonly acks: AckBook;
  readonly keys: AckKeys['current'];
  readonly nowMs: () => number;
  readonly logger: Logger;
}): AckSource => {
  const { home, kafka, acks, logger } = options;
  let keys: readonly VerifierKey[] = [];
  const closing = new AbortController();
  const emitters = new Set<string>();
  /** Why spools or keys cannot be read. */
  let unread: string | undefined;
  /** Reads the topic from its beginning again. */
  let rewind: () => void = () => undefined;
  let refused = 0;
  let failure: string | undefined;

  const take = (value: Buffer | null): void => {
    if (value === null) return;
    try {
      const ack = value.length > MAX_ACK_BYTES ? undefined : parseAck(JSON.parse(value.toString('utf8')), keys);
      if (ack === undefined) refused += 1;
      else if (emitters.has(ack.emitter)) acks.put(ack, options.nowMs());
    } catch {
      refused += 1;
    }
  };

  const poll = (): void => {
    try {
      const before = emitters.size;
      for (const { emitter } of listSpools(home).spools) emitters.add(emitter);
      // A spool that somebody put here may have been acknowledged long ago.
      const trusted = options.keys();
      const isOther = keys.length > 0 && trusted !== keys;
      if (isOther) {
        keys = trusted;
        for (const emitter of emitters) acks.replace(emitter, [], options.nowMs());
      }
      if (isOther || emitters.size > before) rewind();
      unread = undefined;
    } catch (error) {
      const text = errorMessage(error);
      if (text !== unread) logger.warn({ err: error }, 'spools or keys cannot be read');
      unread = text;
    }
  };

  const start = async (consumer: Consumer): Promise<void> => {
    // An ack that is read before its key is there would be refused and not come again.
    keys = options.keys();
    if (keys.length === 0) throw new AppError('kafka_unavailable', 'no key is trusted for acks yet');
    await consumer.connect();
    await consumer.subscribe({ topic: ACKS_TOPIC, fromBeginning: true });
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      rewind = () => {
        // Where the topic does not begin at 0, the client finds its beginning.
        for (const partition of payload.memberAssignment[ACKS_TOPIC] ?? [])
          consumer.seek({ topic: ACKS_TOPIC, partition, offset: '0' });
      };
    });
    // Nothing is committed: every start reads the topic from its beginning, which compaction keeps short.
    await consumer.run({
      autoCommit: false,
      eachMessage: ({ message }) => {
        take(message.value);
        return Promise.resolve();
      },
    });
    failure = undefined;
  };

  const onFailure = (error: unknown): void => {
    const text = errorMessage(error);
    if (text !== failure) logger.warn({ err: error }, 'acks cannot be read from Kafka');
    failure = text;
    rewind = () => undefined;
  };
  poll();
  const running = keepReading({ kafka, groupPrefix: 'edict-acks', start, onFailure, signal: closing.signal });

  return {
    poll,
    status: () => {
      const reason = failure ?? unread;
      return { refused, ...(reason === undefined ? {} : { failure: reason }) };
    },
    async close() {
      closing.abort();
      rewind = () => undefined;
      await running;
    },
  };
};

import { readFileSync } from 'node:fs';
import kafkajs, { type Kafka, type KafkaConfig, type SASLOptions } from 'kafkajs';
import { sha256 } from '../contracts/bytes.ts';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';
import type { Logger } from '../runtime/logger.ts';
import type { Settings } from '../settings/schema.ts';

type KafkaSettings = Settings['kafka'];

const readFileOf = (member: string, path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AppError('settings_invalid', `/kafka/${member}: ${path}: ${errorCode(cause) ?? errorMessage(cause)}`, {
      cause,
    });
  }
};

const tlsOf = ({ tls }: KafkaSettings): KafkaConfig['ssl'] => {
  if (tls === undefined) return undefined;
  return {
    ...(tls.ca_file === undefined ? {} : { ca: [readFileOf('tls/ca_file', tls.ca_file)] }),
    ...(tls.cert_file === undefined ? {} : { cert: readFileOf('tls/cert_file', tls.cert_file) }),
    ...(tls.key_file === undefined ? {} : { key: readFileOf('tls/key_file', tls.key_file) }),
  };
};

const saslOf = ({ sasl }: KafkaSettings): SASLOptions | undefined => {
  if (sasl === undefined) return undefined;
  // Editors end files with a line break, which is no part of the password.
  const password = readFileOf('sasl/password_file', sasl.password_file).replace(/\r?\n$/, '');
  return { mechanism: sasl.mechanism, username: sasl.username, password };
};

/**
 * A client for `kafka.brokers`, with TLS and SASL from the files that the settings name. Connects nothing yet.
 * Throws `settings_invalid` when a file cannot be read.
 */
export const createKafkaClient = (settings: KafkaSettings, clientId: string, logger: Logger): Kafka => {
  const ssl = tlsOf(settings);
  const sasl = saslOf(settings);
  return new kafkajs.Kafka({
    clientId,
    brokers: [...settings.brokers],
    ...(ssl === undefined ? {} : { ssl }),
    ...(sasl === undefined ? {} : { sasl }),
    // A second is too short for a broker that is busy.
    connectionTimeout: 4_000,
    authenticationTimeout: 10_000,
    requestTimeout: 30_000,
    enforceRequestTimeout: true,
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 8 },
    logLevel: kafkajs.logLevel.WARN,
    // The client calls each retry an error. What matters is said by whoever uses it.
    logCreator:
      () =>
      ({ namespace, log }) =>
        logger.debug({ kafka: namespace, detail: log['error'] ?? undefined }, log.message),
  });
};

/** The partition of a tenant's events: all of one tenant go to one partition, in order. */
export const partitionOf = (tenant: string, partitions: number): number => sha256(tenant).readUInt32BE(0) % partitions;

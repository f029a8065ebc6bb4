import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AppError, errorCode, errorMessage } from '../contracts/errors.ts';

/** Where things lie under `home`. */
export const homePaths = (home: string) =>
  ({
    /** `home/emitters/<slot>/{key.pem, boot, spool/, lock}` */
    emitters: join(home, 'emitters'),
    /** One file an emitter, replaced atomically: what the ledger has of its streams (no Kafka). */
    acks: join(home, 'acks'),
    /** `home/data/<tenant>/<first offset>.log`: pushed data (no Kafka). */
    data: join(home, 'data'),
    /** What the topic of pushed data led to, one file a partition. */
    dataTopic: join(home, 'data-topic'),
    keys: join(home, 'keys'),
    /** The last good bundles of a tenant with a set of its own; undefined: of all others. No tenant has an `@`. */
    bundles: (tenant: string | undefined) => join(home, 'bundles', tenant ?? '@all'),
    maskKey: (tenant: string) => join(home, 'keys', 'mask', `${tenant}.key`),
    ledgerKeys: join(home, 'keys', 'ledger'),
    ledgerKey: (tenant: string, incarnation: number) => join(home, 'keys', 'ledger', `${tenant}-${incarnation}.pem`),
    ackKey: join(home, 'keys', 'audit-ack.pem'),
    ackVkey: join(home, 'keys', 'audit-ack.vkey'),
    masterKey: join(home, 'keys', 'master.key'),
    blindKey: join(home, 'keys', 'blind.key'),
    cursorKey: join(home, 'keys', 'cursor.key'),
    authority: join(home, 'authority'),
    database: join(home, 'database'),
    journal: join(home, 'journal'),
    subjectKeys: join(home, 'subject-keys'),
    /** What the signer remembers of each log. */
    signerMemory: join(home, 'signer'),
    /** How far the tripwire has watched. */
    tripwireMemory: join(home, 'tripwire', 'memory.json'),
    /** Embedded: where the audit service listens for the signer. */
    signerLink: join(home, 'signer-link.json'),
  }) as const;

/** A file of raw bytes; throws `settings_invalid` when it is missing or has another length. */
export const readKeyFile = (path: string, lengthBytes: number): Buffer => {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new AppError('settings_invalid', `${path}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
  if (bytes.length !== lengthBytes)
    throw new AppError('settings_invalid', `${path}: has ${bytes.length} bytes, not ${lengthBytes}`);
  return bytes;
};

/** Makes the directory entries below `path` durable. */
export const fsyncDirectory = (path: string): void => {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
};

/**
 * The content of `path`; when the file is missing it is made with `content()`, mode 0600, all or nothing.
 * Two processes that start together get the same content: the first link wins.
 */
export const readOrCreateFile = (path: string, content: () => Uint8Array): Buffer => {
  for (let attempt = 0; attempt < 2; attempt += 1) {
    try {
      return readFileSync(path);
    } catch (cause) {
      if (errorCode(cause) !== 'ENOENT')
        throw new AppError('settings_invalid', `${path}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
          cause,
        });
    }
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const temporary = `${path}.${randomBytes(6).toString('hex')}`;
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(fd, content());
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    try {
      linkSync(temporary, path);
    } catch (cause) {
      if (errorCode(cause) !== 'EEXIST') throw cause;
    } finally {
      unlinkSync(temporary);
    }
    fsyncDirectory(dirname(path));
  }
  return readFileSync(path);
};

/** The 32 random bytes at `path`, made when missing. */
export const readOrCreateKey = (path: string): Buffer => {
  const bytes = readOrCreateFile(path, () => randomBytes(32));
  if (bytes.length !== 32) throw new AppError('settings_invalid', `${path}: has ${bytes.length} bytes, not 32`);
  return bytes;
};

import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { hex, sha256, sha256Hex } from '../../shared/contracts/bytes.ts';
import { AppError, errorCode, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { generateSigningKey, signingKeyFromPem, type SigningKey } from '../../shared/contracts/signatures.ts';
import { readOrCreateFile } from '../../shared/settings/home.ts';
import { realReplaceFs, replaceFile, type ReplaceFs } from '../../shared/spool/files.ts';
import { acquireLock } from '../../shared/spool/lock.ts';
import { parseCheckpoint } from '../../shared/tlog/checkpoint.ts';
import {
  formatWitnessVkey,
  openCosignatures,
  parseWitnessVkey,
  type WitnessKey,
} from '../../shared/tlog/cosignature.ts';
import { MAX_NOTE_BYTES, parseNote } from '../../shared/tlog/signed-note.ts';
import type { Seen, SeenStore } from '../core/witness.ts';

/**
 * A witness' folder: `witness.pem`, `witness.vkey`, a checkpoint for each log, and `origins`, the logs that have one, a line
 * each. It belongs to one process.
 */
export interface WitnessFolder {
  readonly signer: SigningKey;
  readonly witness: WitnessKey;
  readonly seen: SeenStore;
  /** Why the newest checkpoint could not be kept; undefined once one could. */
  readonly failure: () => string | undefined;
  readonly close: () => Promise<void>;
}

export interface WitnessFolderOptions {
  readonly folder: string;
  /** The name of a new witness; undefined: one is made of its key. */
  readonly name: string | undefined;
  readonly origins: readonly string[];
  readonly fs?: ReplaceFs;
}

/** An origin may have any length, and none leads out of the folder. */
const seenFile = (folder: string, origin: string): string =>
  join(folder, 'logs', `${sha256Hex(origin).slice(0, 32)}.checkpoint`);

const originsFile = (folder: string): string => join(folder, 'origins');

const failed = (what: string, cause?: unknown): AppError =>
  new AppError('witness_failed', cause === undefined ? what : `${what} (${errorCode(cause) ?? errorMessage(cause)})`, {
    cause,
  });

/** The file's text, or undefined when there is none. */
const readText = (file: string): string | undefined => {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw failed(`${file}: cannot be read`, cause);
  }
};

const openKey = (
  folder: string,
  name: string | undefined,
): { readonly signer: SigningKey; readonly witness: WitnessKey } => {
  const [keyFile, vkeyFile] = [join(folder, 'witness.pem'), join(folder, 'witness.vkey')];
  const isFirst =
    readdirSync(join(folder, 'logs')).length === 0 &&
    readText(vkeyFile) === undefined &&
    (readText(originsFile(folder)) ?? '') === '';
  if (!isFirst && !existsSync(keyFile)) throw failed(`${keyFile}: is missing; put it back, or begin in another folder`);
  const pem = readOrCreateFile(keyFile, () => Buffer.from(generateSigningKey().pem, 'utf8')).toString('utf8');
  let signer: SigningKey;
  try {
    signer = signingKeyFromPem(pem);
  } catch (cause) {
    throw failed(`${keyFile}: is no private key`, cause);
  }
  if (isFirst) {
    const given = name ?? `witness/${hex(sha256(signer.publicKey)).slice(0, 16)}`;
    if (!/^[^\s+]+$/u.test(given)) throw new AppError('usage', `--name: "${given}" has a space, a plus, or nothing`);
    replaceFile(originsFile(folder), '');
    replaceFile(vkeyFile, `${formatWitnessVkey(given, signer.publicKey)}\n`);
    chmodSync(vkeyFile, 0o644);
  }
  let witness: WitnessKey;
  try {
    witness = parseWitnessVkey(readText(vkeyFile) ?? '');
  } catch (cause) {
    throw failed(`${vkeyFile}: is missing, or no verifier key of a witness; put it back`, cause);
  }
  if (!witness.publicKey.equals(signer.publicKey)) throw failed(`${vkeyFile}: is not of the key in ${keyFile}`);
  if (name !== undefined && name !== witness.name)
    throw new AppError('usage', `--name: this witness is ${witness.name}; another name is another witness and folder`);
  return { signer, witness };
};

const readSeen = (file: string, origin: string, witness: WitnessKey): Seen | undefined => {
  const note = readText(file);
  if (note === undefined) return undefined;
  const bytes = Buffer.from(note, 'utf8');
  const checkpoint = parseCheckpoint(parseNote(bytes)?.text ?? '');
  if (checkpoint?.origin !== origin || openCosignatures(bytes, [witness])?.length !== 1)
    throw failed(`${file}: is no checkpoint of ${origin} that this witness cosigned; put it back`);
  return { checkpoint, note };
};

/** The logs that were cosigned, each with its newest checkpoint; of those in `origins` none may be missing. */
const readAll = (folder: string, origins: readonly string[], witness: WitnessKey): Map<string, Seen> => {
  const list = originsFile(folder);
  const listed = readText(list)
    ?.split('\n')
    .filter((line) => line !== '');
  if (listed === undefined) throw failed(`${list}: is missing; put it back, or begin in another folder`);
  const known = new Map<string, Seen>();
  for (const origin of new Set([...listed, ...origins])) {
    const file = seenFile(folder, origin);
    const seen = readSeen(file, origin, witness);
    if (seen !== undefined) known.set(origin, seen);
    else if (listed.includes(origin))
      throw failed(`${file}: is missing, the checkpoint of ${origin}; put it back, or begin in another folder`);
  }
  return known;
};

const openLocked = (
  { folder, name, origins, fs = realReplaceFs }: WitnessFolderOptions,
  close: WitnessFolder['close'],
): WitnessFolder => {
  const logs = join(folder, 'logs');
  // What was cosigned and the key live and die together: to begin again with an old key is to forget.
  if (existsSync(join(folder, 'witness.vkey')) && !existsSync(logs))
    throw failed(`${logs}: is missing; put it back, or begin in another folder`);
  mkdirSync(logs, { recursive: true, mode: 0o700 });
  for (const file of readdirSync(logs)) if (file.endsWith('.tmp')) unlinkSync(join(logs, file));
  const { signer, witness } = openKey(folder, name);
  const known = readAll(folder, origins, witness);
  const list = (names: Iterable<string>): void =>
    replaceFile(originsFile(folder), [...names].map((origin) => `${origin}\n`).join(''), fs);
  list(known.keys());
  let failure: string | undefined;
  const write = (seen: Seen): void => {
    const { origin } = seen.checkpoint;
    const file = seenFile(folder, origin);
    try {
      if (Buffer.byteLength(seen.note) > MAX_NOTE_BYTES) throw new RangeError('longer than a note');
      replaceFile(file, seen.note, fs);
      // Before anybody has a cosignature: from then on the checkpoint may not be missed.
      if (!known.has(origin)) list([...known.keys(), origin]);
    } catch (cause) {
      const error = failed(`${file}: cannot be written`, cause);
      failure = error.message;
      throw error;
    }
    failure = undefined;
    known.set(origin, seen);
  };
  return { signer, witness, seen: { read: (origin) => known.get(origin), write }, failure: () => failure, close };
};

/** Throws `witness_failed` when another process has the folder, or something in it is not what a witness left there. */
export const openWitnessFolder = async (options: WitnessFolderOptions): Promise<WitnessFolder> => {
  const { folder } = options;
  try {
    const lock = await acquireLock(folder);
    if (lock === undefined) throw failed(`${folder}: another witness works in it`);
    try {
      return openLocked(options, lock.release);
    } catch (error) {
      await lock.release();
      throw error;
    }
  } catch (cause) {
    throw isAppError(cause) ? cause : failed(`${folder}: cannot be used`, cause);
  }
};

import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import {
  emitterId,
  generateSigningKey,
  signingKeyFromPem,
  type SigningKey,
} from '../../shared/contracts/signatures.ts';
import { fsyncDirectory, homePaths, readOrCreateFile } from '../../shared/settings/home.ts';
import { replaceFile } from '../../shared/spool/files.ts';
import { acquireLock, type HeldLock } from '../../shared/spool/lock.ts';
import { listSegments } from '../../shared/spool/segments.ts';
import { slotPaths } from '../../shared/spool/slots.ts';

const MAX_SLOTS = 64;
const MAX_BOOT = 2n ** 64n - 1n;

/** A slot that this process holds. */
export interface Slot {
  readonly name: string;
  readonly paths: ReturnType<typeof slotPaths>;
  readonly lock: HeldLock;
}

/** Takes the lowest free slot under `home`. Throws `spool_locked` when all are held by living processes. */
export const takeSlot = async (home: string): Promise<Slot> => {
  mkdirSync(homePaths(home).emitters, { recursive: true, mode: 0o700 });
  for (let index = 0; index < MAX_SLOTS; index += 1) {
    const name = String(index);
    const paths = slotPaths(home, name);
    const lock = await acquireLock(paths.directory);
    if (lock !== undefined) return { name, paths, lock };
  }
  throw new AppError('spool_locked', `all ${MAX_SLOTS} emitter slots of ${home} are in use`);
};

/**
 * Moves a slot aside whose spool cannot continue. What it holds stays readable there; the lock moves with it and is
 * not given up, so that nobody else takes the moved folder for a slot that is free.
 */
export const moveSlotAside = (home: string, slot: Slot, nowMs: number): string => {
  const name = `${slot.name}.damaged-${new Date(nowMs).toISOString().replaceAll(/[:.]/g, '-')}`;
  renameSync(slot.paths.directory, slotPaths(home, name).directory);
  fsyncDirectory(homePaths(home).emitters);
  return name;
};

export interface Identity {
  readonly key: SigningKey;
  readonly emitter: string;
  /** The last boot that began; 0 for a new key. */
  readonly lastBoot: bigint;
}

const readBoot = (path: string): bigint => {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return 0n;
    throw cause;
  }
  if (!/^[1-9]\d{0,19}$/.test(text) || BigInt(text) >= MAX_BOOT)
    throw new AppError('spool_corrupt', `${path}: is not a boot counter`);
  return BigInt(text);
};

/**
 * The key and boot counter of a slot; the key is made when missing, mode 0600. Throws `spool_corrupt` when they do
 * not fit what lies beside them, since numbers would then be used twice.
 */
export const openIdentity = ({ paths }: Slot): Identity => {
  const hasSpool = listSegments(paths.spool).length > 0;
  const hadKey = existsSync(paths.key);
  if (hasSpool && !hadKey) throw new AppError('spool_corrupt', `${paths.key}: is missing, but the spool is there`);
  const pem = readOrCreateFile(paths.key, () => Buffer.from(generateSigningKey().pem, 'utf8')).toString('utf8');
  let key: SigningKey;
  try {
    key = signingKeyFromPem(pem);
  } catch (cause) {
    throw new AppError('spool_corrupt', `${paths.key}: ${errorMessage(cause)}`, { cause });
  }
  const lastBoot = readBoot(paths.boot);
  if (lastBoot > 0n && !hasSpool)
    throw new AppError('spool_corrupt', `${paths.spool}: is empty, but boot ${lastBoot} wrote to it`);
  return { key, emitter: emitterId(key.publicKey), lastBoot };
};

/** Makes the counter durable before the first event of `boot` is written. */
export const saveBoot = ({ paths }: Slot, boot: bigint): void => replaceFile(paths.boot, `${boot}\n`);

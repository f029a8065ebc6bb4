import { existsSync, readFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage, isAppError } from '../shared/contracts/errors.ts';
import { parseVkey, type VerifierKey } from '../shared/contracts/signatures.ts';
import { homePaths } from '../shared/settings/home.ts';
import type { Settings } from '../shared/settings/settings.ts';
import { openCheckpoint, type Checkpoint } from '../shared/tlog/checkpoint.ts';
import { parseMemory } from './core/signing-memory.ts';
import type { CreatedLedger } from './postgres/create-ledger.ts';
import { readNotesOfAlarms, readRefusedLogs } from './postgres/read-checkpoints.ts';
import { readTenantLogs, type LogRow } from './postgres/read-ledger.ts';
import { memoryFile } from './signer/memory-file.ts';
import { createTenantLedger, type CreateTenantLedgerOptions, type LedgerStore } from './store.ts';

export interface ResumeOptions {
  /** For the entry: why the database went back. */
  readonly reason: string;
  /** For the entry: who says so. */
  readonly by: string;
  /** A signed note that somebody holds: the newest checkpoint of the log. */
  readonly checkpoint?: Uint8Array;
}

export interface ResumedLedger {
  readonly created: CreatedLedger;
  /** Where the largest signed checkpoint was found; the database: the log has all that was signed, the meta log has not. */
  readonly source: 'the note that was given' | 'the signer’s alarm' | 'the signer’s memory' | 'the database';
}

type Found = Pick<ResumedLedger, 'source'> & { readonly signed: Checkpoint };

const incarnationOf = (origin: string): number => Number(/\/(\d+)$/.exec(origin)?.[1] ?? 0);

/** What the signer remembers on this machine; undefined when its memory is elsewhere. Throws `signer_memory_failed`. */
const readMemory = (settings: Settings, origin: string): Checkpoint | undefined => {
  const file = memoryFile(settings.signer.memory_dir ?? homePaths(settings.home).signerMemory, origin);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw new AppError('signer_memory_failed', `${file}: ${errorCode(cause) ?? errorMessage(cause)}`, { cause });
  }
  const memory = parseMemory(text, origin);
  if (memory === undefined) throw new AppError('signer_memory_failed', `${file}: is not what the signer wrote`);
  return { origin, ...memory.signed };
};

/** The verifier keys of a tenant's newest log in the database, and of later incarnations that the database has lost. */
const keysFrom = (settings: Settings, tenant: string, newest: LogRow): ReadonlyMap<string, VerifierKey> => {
  const keys = new Map<string, VerifierKey>();
  const prefix = newest.origin.replace(/\d+$/, '');
  for (let incarnation = newest.incarnation; ; incarnation += 1) {
    const file = homePaths(settings.home)
      .ledgerKey(tenant, incarnation)
      .replace(/\.pem$/, '.vkey');
    const made = existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
    const named = incarnation === newest.incarnation ? newest.vkey : made;
    if (named === undefined) return keys;
    const key = parseVkey(named);
    if (key.name !== `${prefix}${incarnation}` || (made !== undefined && made !== named))
      throw new AppError('settings_invalid', `${file}: is not the verifier key of ${prefix}${incarnation}`);
    keys.set(key.name, key);
  }
};

const openWith = (note: Uint8Array, keys: ReadonlyMap<string, VerifierKey>): Checkpoint | undefined => {
  const key = keys.get(Buffer.from(note).toString('utf8').split('\n', 1)[0] ?? '');
  return key === undefined ? undefined : openCheckpoint(note, key);
};

/** Tenants whose newest log the signer refuses because the database went back. */
export const tenantsToResume = async (store: Pick<LedgerStore, 'database'>): Promise<readonly string[]> => [
  ...new Set((await readRefusedLogs(store.database)).map(({ tenant }) => tenant)),
];

/**
 * Goes on after the database was restored from an older copy: a new incarnation, whose genesis names the largest tree
 * that was signed of the log before. That tree is told by a note that is given, by the note in the signer's alarm, or by
 * the signer's memory, whichever is largest; notes count when the log's key signed them. What lies in the database
 * behind the newest checkpoint that it still has is asked for again from the emitters. With the system tenant's log the
 * meta log goes on in a new incarnation, so that is resumed also when only the meta log went back. Rejects with `usage`
 * when nothing says that more was signed than the database has.
 */
export const resumeLedger = async (
  settings: Settings,
  store: Pick<LedgerStore, 'database' | 'write'>,
  tenant: string,
  { reason, by, checkpoint }: ResumeOptions,
): Promise<ResumedLedger> => {
  const [log] = await readTenantLogs(store.database, tenant);
  if (log === undefined) throw new AppError('usage', `tenant ${tenant} has no ledger that could be resumed`);
  const { origin } = log;
  const keys = keysFrom(settings, tenant, log);
  const found: Found[] = [];
  if (checkpoint !== undefined) {
    const signed = openWith(checkpoint, keys);
    if (signed === undefined)
      throw new AppError('usage', `the checkpoint that was given is none that the key of ${origin} signed`);
    found.push({ source: 'the note that was given', signed });
  }
  for (const note of await readNotesOfAlarms(store.database, log.id)) {
    const signed = openWith(note, keys);
    if (signed !== undefined) found.push({ source: 'the signer’s alarm', signed });
  }
  for (const name of keys.keys()) {
    const signed = readMemory(settings, name);
    if (signed !== undefined) found.push({ source: 'the signer’s memory', signed });
  }
  const [largest] = found.toSorted(
    ({ signed: a }, { signed: b }) => incarnationOf(b.origin) - incarnationOf(a.origin) || Number(b.size - a.size),
  );
  const isMetaRefused = (await readRefusedLogs(store.database)).some((one) => one.tenant === tenant && one.isMeta);
  const create = (resumed: NonNullable<CreateTenantLedgerOptions['resumed']>): Promise<CreatedLedger> =>
    createTenantLedger(settings, store, tenant, { newIncarnation: true, resumed });
  if (largest === undefined && !isMetaRefused)
    throw new AppError(
      'usage',
      `nothing here says what was signed of ${origin}: let the signer run once against this database, run this where ` +
        'its memory is, or give the newest checkpoint that an auditor or a witness holds (--checkpoint FILE)',
    );
  try {
    if (largest !== undefined)
      return { created: await create({ signed: largest.signed, reason, by }), source: largest.source };
  } catch (error) {
    if (!isMetaRefused || !isAppError(error) || error.code !== 'usage') throw error;
  }
  return { created: await create({ reason, by }), source: 'the database' };
};

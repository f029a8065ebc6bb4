import { existsSync, readFileSync } from 'node:fs';
import { Command } from 'commander';
import { openCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { witnessed, type Policy } from '../../shared/tlog/policy.ts';
import { consistencyProof, isConsistent, type ReadHashes } from '../../shared/tlog/proofs.ts';
import { formatSignature, parseNote } from '../../shared/tlog/signed-note.ts';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { readVkeys } from './audit-keys.ts';
import { jsonLine, print, printable } from './audit-print.ts';
import { askWitnessed, DEFAULT_MAX_AGE, hashesOver, logPath, maxAgeOf, readMetaPolicy } from './audit-witnessed.ts';
import { replaceFile } from '../replace-file.ts';

interface CheckpointOptions extends AuditConnection {
  readonly tenant?: string;
  readonly vkey: string;
  readonly hold?: string;
  readonly policy?: string;
  readonly maxAge?: string;
  readonly json?: boolean;
}

/** The one log whose key the auditor names. */
const onlyKey = (file: string): VerifierKey => {
  const [key, ...more] = readVkeys([file]).values();
  if (key === undefined || more.length > 0)
    throw new AppError('usage', `--vkey: ${file} holds not one key but ${more.length + (key === undefined ? 0 : 1)}`);
  return key;
};

/** What the auditor holds already; undefined when there is no such file yet. */
const readHeld = (file: string, key: VerifierKey): Checkpoint | undefined => {
  if (!existsSync(file)) return undefined;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    throw new AppError('usage', `--hold: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
  const held = openCheckpoint(bytes, key);
  if (held === undefined) throw new AppError('usage', `--hold: ${file} is no checkpoint that this key signed`);
  return held;
};

/** Why the newest checkpoint does not continue the one that is held; undefined when it does. */
const breakOf = async (held: Checkpoint, newest: Checkpoint, read: ReadHashes): Promise<string | undefined> => {
  if (newest.size < held.size)
    return `the log has ${newest.size} signed entries; you hold a checkpoint of ${held.size}`;
  const proof = await consistencyProof(held.size, newest.size, read);
  return isConsistent(held, newest, proof)
    ? undefined
    : `the tree of size ${newest.size} does not begin with the one of size ${held.size} that you hold`;
};

/**
 * The note with those of its signature lines that were verified: the log's, and cosignatures of the policy's witnesses. The
 * others are the service's to choose, for a terminal and for the file that is held.
 */
const verifiedNote = (bytes: Uint8Array, key: VerifierKey, policy: Policy | undefined): Buffer => {
  const { text, signatures } = parseNote(bytes) ?? { text: '', signatures: [] };
  const own = signatures.find(({ name, keyId }) => name === key.name && keyId.equals(key.keyId));
  const cosignatures = policy === undefined ? [] : (witnessed(policy, bytes)?.cosignatures ?? []);
  const lines = [...(own === undefined ? [] : [formatSignature(own)]), ...cosignatures.map(({ line }) => line)];
  return Buffer.from(`${text}\n${lines.join('')}`, 'utf8');
};

const checkpoint = async (options: CheckpointOptions): Promise<void> => {
  const key = onlyKey(options.vkey);
  const policy = options.policy === undefined ? undefined : readMetaPolicy(options.policy);
  const maxAgeS = maxAgeOf(options);
  const held = options.hold === undefined ? undefined : readHeld(options.hold, key);
  const client = createAuditClient(options);
  const path = logPath(key.name, options.tenant);
  const { bytes } = await client.download(`${path}/checkpoint`, {});
  const newest = openCheckpoint(bytes, key);
  const note = newest === undefined ? bytes : verifiedNote(bytes, key, policy);
  const problem =
    newest === undefined
      ? 'the checkpoint was not signed with this key'
      : held === undefined
        ? undefined
        : await breakOf(held, newest, hashesOver(client, path));
  const seen = newest === undefined ? undefined : { origin: key.name, tenant: options.tenant, newest, key };
  const verdict =
    problem !== undefined || seen === undefined ? undefined : await askWitnessed(client, seen, policy, maxAgeS);
  if (options.json === true) {
    const document = {
      origin: key.name,
      note: note.toString('utf8'),
      size: newest === undefined ? null : String(newest.size),
      continues: held === undefined || newest === undefined ? null : problem === undefined ? String(held.size) : null,
      witnessed: verdict ?? null,
      problem: problem ?? null,
    };
    print(jsonLine(document));
  } else if (problem === undefined) {
    print(note.toString('utf8'));
    if (held !== undefined) process.stderr.write(`continues the checkpoint of size ${held.size}\n`);
    if (verdict !== undefined && verdict.status !== 'failed') process.stderr.write(`${printable(verdict.note)}\n`);
  }
  const fault = problem ?? (verdict?.status === 'failed' ? verdict.note : undefined);
  if (fault !== undefined) {
    process.stderr.write(`! ${printable(fault)}\n`);
    process.exitCode = 1;
  } else if (options.hold !== undefined) await replaceFile(options.hold, note);
};

/** `common`: the options that all commands of the group have. */
export const auditCheckpointCommand = (common: (command: Command) => Command): Command =>
  common(new Command('checkpoint'))
    .description('the newest checkpoint of a log, checked with your key and against the one that you hold')
    .requiredOption('--vkey <file>', 'verifier key of the log, as you hold it')
    .option('--hold <file>', 'the checkpoint of last time; replaced by the newest when that continues it')
    .option('--policy <file>', 'C2SP tlog-policy: the meta log’s key and the witnesses that must have cosigned')
    .option('--max-age <duration>', `with --policy: how old the cosignatures may be (default: ${DEFAULT_MAX_AGE})`)
    .addHelpText(
      'after',
      '\nThe log is the one that the key names; --tenant says whose it is when its name hides that.\n' +
        '\nExit codes: 0 good, 1 not signed with this key, no continuation or not witnessed, 2 usage or no answer.\n',
    )
    .action(checkpoint);

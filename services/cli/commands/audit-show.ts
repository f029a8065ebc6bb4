import { Command } from 'commander';
import { commitPayload, decodeEntry, leafHash } from '../../audit/core/entry.ts';
import { rootOfInclusion } from '../../audit/core/proofs.ts';
import { bytesEqual, fromHex } from '../../shared/contracts/bytes.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { createAuditClient, type AuditConnection } from './audit-client.ts';
import { openWithOwnKey, readVkeys } from './audit-keys.ts';
import { paintFor, printable, printableJson } from './audit-print.ts';

interface ShowOptions extends AuditConnection {
  readonly tenant?: string;
  readonly json?: boolean;
  readonly vkey?: readonly string[];
}

type Shown = Readonly<Record<string, unknown>>;

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const bytesOf = (value: unknown): Buffer => Buffer.from(text(value), 'base64');
const prettyJson = (value: unknown): string => printableJson(JSON.stringify(value ?? null, undefined, 2));

/** Whether salt and bytes of the event are those that the entry commits to; undefined where the payload is gone. */
const isCommitted = (shown: Shown, commitment: Uint8Array): boolean | undefined => {
  const salt = fromHex(text(shown['salt']));
  if (typeof shown['event_base64'] !== 'string' || salt.length !== 32) return undefined;
  return bytesEqual(commitPayload(salt, text(shown['content_type']), bytesOf(shown['event_base64'])), commitment);
};

interface Proven {
  readonly isGood: boolean;
  readonly line: string;
}

/**
 * Whether the answer proves, with a key of the auditor's own and nothing else that the service says, that this event is
 * an entry of the log: event, commitment, entry, leaf, path, root, signature.
 */
const prove = (id: string, shown: Shown, keys: ReadonlyMap<string, VerifierKey>): Proven => {
  const bad = (line: string): Proven => ({ isGood: false, line });
  const opened = openWithOwnKey(text(shown['log']), text(shown['checkpoint']), keys);
  if ('problem' in opened) return bad(opened.problem);
  const { size, root } = opened.checkpoint;
  const bytes = bytesOf(shown['entry_base64']);
  let entry;
  try {
    entry = decodeEntry(bytes);
  } catch (error) {
    return bad(String(error));
  }
  if (bytesToUuid(entry.eventId) !== id) return bad('the entry is of another event');
  if (isCommitted(shown, entry.commitment) === false) return bad('the entry does not commit to this event');
  const { proof } = shown;
  if (!isObject(proof)) return bad(`the newest checkpoint, of size ${size}, does not cover it yet`);
  const hashes = Array.isArray(proof['hashes']) ? (proof['hashes'] as readonly unknown[]).map(bytesOf) : [];
  const found = rootOfInclusion(leafHash(bytes), entry.seq, size, hashes);
  return found !== undefined && bytesEqual(found, root)
    ? { isGood: true, line: `entry ${entry.seq} of the ${size} that your key signed` }
    : bad(`the path does not lead to the root of size ${size}`);
};

const show = async (id: string, options: ShowOptions): Promise<void> => {
  const keys = options.vkey === undefined ? undefined : readVkeys(options.vkey);
  const client = createAuditClient(options);
  const shown = await client.get(
    `/v1/decisions/${encodeURIComponent(id)}`,
    options.tenant === undefined ? {} : { tenant: options.tenant },
  );
  const proven = keys === undefined ? undefined : prove(id, shown, keys);
  const checks = isObject(shown['checks']) ? shown['checks'] : {};
  if (checks['leaf'] === false || checks['commitment'] === false || proven?.isGood === false) process.exitCode = 1;
  if (options.json === true) {
    process.stdout.write(`${printableJson(JSON.stringify(shown))}\n`);
    if (proven?.isGood === false) process.stderr.write(`! not proven: ${printable(proven.line)}\n`);
    return;
  }
  const paint = paintFor(process.stdout, process.env);
  const mark = (value: unknown): string =>
    value === true ? paint.green('fits') : value === false ? paint.red('DOES NOT FIT') : paint.yellow('not checked');
  const proofText = (): string => {
    if (proven !== undefined)
      return `${proven.isGood ? paint.green('good') : paint.red('NONE')}  ${printable(proven.line)}`;
    const { proof } = shown;
    if (!isObject(proof)) return `none: ${printable(text(shown['not_proven']))}`;
    return `${paint.yellow('not checked')}  in a tree of ${printable(text(proof['tree_size']))}; --vkey has it checked`;
  };
  process.stdout.write(
    [
      `${paint.bold('event')} ${prettyJson(shown['event'])}`,
      `${paint.bold('entry')} ${prettyJson(shown['entry'])}`,
      `log         ${printable(text(shown['log']))}`,
      `leaf        ${printable(text(shown['leaf']))}  ${mark(checks['leaf'])}`,
      `commitment  ${mark(checks['commitment'])}`,
      `proof       ${proofText()}`,
      '',
    ].join('\n'),
  );
};

/** `common`: the options that all commands of the group have. */
export const auditShowCommand = (common: (command: Command) => Command): Command =>
  common(new Command('show'))
    .description('one event, its entry, its hashes and its proof')
    .argument('<id>', 'decision id')
    .option('--vkey <file...>', 'verifier keys of the logs, as you hold them: the proof is checked with nothing else')
    .addHelpText(
      'after',
      '\nExit codes: 0 what was checked fits, 1 a hash does not fit or --vkey proves nothing, 2 usage or no answer.\n',
    )
    .action(show);

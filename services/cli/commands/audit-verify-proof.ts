import { readFileSync, statSync } from 'node:fs';
import { Command } from 'commander';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { readPolicyFile } from '../../shared/settings/policy-file.ts';
import type { Policy } from '../../shared/tlog/policy.ts';
import { MAX_PROOF_BYTES } from '../../shared/tlog/proof-file.ts';
import {
  isMetaProof,
  PROOF_VERDICTS,
  verifyProof,
  type ProofReport,
  type ProofVerdict,
  type ProofVerdictName,
} from '../../audit/core/verify-proof.ts';
import { jsonLine, paintFor, print, printable, type Paint } from './audit-print.ts';

interface VerifyProofOptions {
  readonly policy: string;
  readonly event?: string;
  readonly json?: boolean;
}

/** More than the largest event. */
const MAX_EVENT_BYTES = 16 * 1024 * 1024;

const readInput = (what: string, file: string, maxBytes: number): Buffer => {
  try {
    if (statSync(file).size > maxBytes) throw new RangeError(`longer than ${maxBytes} bytes`);
    return readFileSync(file);
  } catch (cause) {
    throw new AppError('usage', `${what}${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

const TITLES: Readonly<Record<ProofVerdictName, string>> = {
  event: 'event',
  inclusion: 'inclusion',
  log_signature: 'log signature',
  meta_inclusion: 'meta inclusion',
  meta_signature: 'meta signature',
  quorum: 'quorum',
};

const statusText = ({ status }: ProofVerdict, paint: Paint): string => {
  switch (status) {
    case 'ok':
      return paint.green('ok');
    case 'failed':
      return paint.red('FAILED');
    case 'not_checked':
      return paint.yellow('not checked');
    case 'not_witnessed':
      return paint.red('NOT WITNESSED');
    default:
      return status satisfies never;
  }
};

const timeText = (timeS: number): string => new Date(timeS * 1_000).toISOString().replace('.000Z', 'Z');

const printProof = (file: string, { verdicts, eventId, cosignatures }: ProofReport, paint: Paint): string =>
  [
    `${paint.bold(printable(file))}${eventId === null ? '' : `  event ${eventId}`}`,
    ...PROOF_VERDICTS.map((name) => {
      const verdict = verdicts[name];
      return `  ${TITLES[name].padEnd(14)}  ${statusText(verdict, paint)}  ${printable(verdict.note)}`;
    }),
    ...cosignatures.map(({ witness, timeS }) => `      ${timeText(timeS)}  ${printable(witness)}`),
    '',
  ].join('\n');

const jsonOf = (file: string, { treeSize, eventId, isGood, cosignatures, ...report }: ProofReport) => ({
  file,
  ...report,
  tree_size: treeSize,
  event_id: eventId,
  cosignatures: cosignatures.map(({ witness, timeS }) => ({ witness, time: timeText(timeS) })),
  good: isGood,
});

/**
 * With the proof of the meta log that makes it good, else one that fits: two entries may have been proven over different
 * checkpoints, and one checkpoint over several of the meta log.
 */
const verifyWith = (
  entry: Uint8Array,
  metas: readonly Uint8Array[],
  event: Uint8Array | undefined,
  policy: Policy,
): ProofReport => {
  const reports = (metas.length === 0 ? [undefined] : metas).map((meta) => verifyProof({ entry, meta, event }, policy));
  const [first] = reports;
  if (first === undefined) throw new AppError('internal', 'nothing was verified');
  return (
    reports.find(({ isGood }) => isGood) ??
    reports.find(({ verdicts }) => verdicts.meta_inclusion.status === 'ok') ??
    first
  );
};

const verify = (files: readonly string[], options: VerifyProofOptions): void => {
  const policy = readPolicyFile(options.policy, (what, cause) => new AppError('usage', `--policy: ${what}`, { cause }));
  const event = options.event === undefined ? undefined : readInput('--event: ', options.event, MAX_EVENT_BYTES);
  const read = files.map((file) => ({ file, bytes: readInput('', file, MAX_PROOF_BYTES) }));
  const metas = read.filter(({ bytes }) => isMetaProof(bytes)).map(({ bytes }) => bytes);
  const entries = read.filter(({ bytes }) => !isMetaProof(bytes));
  if (entries.length === 0)
    throw new AppError('usage', 'only proofs of the meta log: give the file of the entry beside it');
  if (event !== undefined && entries.length > 1) throw new AppError('usage', '--event: it belongs to one proof only');
  const paint = paintFor(process.stdout, process.env);
  const reports = entries.map(({ file, bytes }) => ({ file, report: verifyWith(bytes, metas, event, policy) }));
  if (options.json === true) print(jsonLine({ proofs: reports.map(({ file, report }) => jsonOf(file, report)) }));
  else for (const { file, report } of reports) print(printProof(file, report, paint));
  if (reports.some(({ report }) => !report.isGood)) process.exitCode = 1;
};

export const auditVerifyProofCommand = (): Command =>
  new Command('verify-proof')
    .description('check proof files with public keys only, without asking anybody')
    .argument('<file...>', 'what audit show --proof wrote: the proof of the entry, and that of the meta log')
    .requiredOption('--policy <file>', 'the logs and witnesses that you trust, and the quorum (C2SP tlog-policy)')
    .option('--event <file>', 'the bytes of the event, which the entry must commit to')
    .option('--json', 'one JSON document')
    .addHelpText(
      'after',
      '\nThe policy names the keys of the log and of the meta log (log …), those of witnesses (witness …) and how many are\n' +
        'enough (group …, quorum …). "NOT WITNESSED": the log alone says so; whoever has its key could say otherwise to others.\n' +
        '\nExit codes: 0 everything that the policy asks for is there, 1 something is wrong or not witnessed, 2 usage.\n',
    )
    .action(verify);

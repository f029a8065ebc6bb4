import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { printable, printableJson } from './audit-print.ts';
import { serviceAddress, type Address } from './service-address.ts';

interface DecideOptions extends Address {
  readonly file: string;
  readonly keyFile?: string;
  readonly json?: boolean;
}

/** Exit codes: 0 allow, 1 deny, 2 no decision. */
const EXIT = { allow: 0, deny: 1, none: 2 } as const;
const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

const read = (file: string): Buffer => {
  try {
    return readFileSync(file === '-' ? 0 : file);
  } catch (cause) {
    throw new AppError('usage', `${file}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, { cause });
  }
};

const boundedText = async (response: Response): Promise<string> => {
  const chunks: Uint8Array[] = [];
  let received = 0;
  for await (const chunk of response.body ?? []) {
    received += chunk.length;
    if (received > MAX_ANSWER_BYTES) throw new AppError('upstream_unavailable', 'the answer is larger than 4 MiB');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
};

const ask = async (target: URL, body: Buffer, key: string | undefined) => {
  try {
    const response = await fetch(target, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: new Uint8Array(body),
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return { status: response.status, text: await boundedText(response) };
  } catch (cause) {
    const inner = isObject(cause) && 'cause' in cause ? cause['cause'] : undefined;
    const why = errorCode(inner) ?? errorMessage(cause);
    throw new AppError('upstream_unavailable', `${target.origin} does not answer (${why})`, { cause });
  }
};

const parse = (text: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // Told below, with what may be at that address.
  }
  throw new AppError('upstream_unavailable', 'the answer is not JSON: is this a decision point?');
};

const list = (value: unknown): readonly Readonly<Record<string, unknown>>[] =>
  Array.isArray(value) ? value.filter((item) => isObject(item)) : [];
const text = (value: unknown): string => (typeof value === 'string' ? printable(value) : '');

const describe = (status: number, answer: Readonly<Record<string, unknown>>): string => {
  const lines = [status === 200 ? text(answer['decision']) : `no decision: ${status} ${text(answer['code'])}`];
  for (const { code, leg, rule, message } of list(answer['reasons']))
    lines.push(
      `  ${[text(code), leg === undefined ? '' : `leg ${text(leg)}`, rule === undefined ? '' : `rule ${text(rule)}`, text(message)].filter((part) => part !== '').join(', ')}`,
    );
  for (const { type, properties } of list(answer['obligations']))
    lines.push(`  obligation ${text(type)} ${printableJson(JSON.stringify(properties ?? {}))}`);
  for (const { type, properties } of list(answer['advice']))
    lines.push(`  advice ${text(type)} ${printableJson(JSON.stringify(properties ?? {}))}`);
  if (answer['decision_id'] !== undefined) lines.push(`  decision ${text(answer['decision_id'])}`);
  return lines.join('\n');
};

/** Sends one request to a running decision point; the exit code tells the decision. */
const decide = async (options: DecideOptions): Promise<void> => {
  const target = new URL('/v1/decide', serviceAddress(options, 'pdp'));
  const body = read(options.file);
  const key = options.keyFile === undefined ? undefined : read(options.keyFile).toString('utf8').trim();
  const { status, text: answerText } = await ask(target, body, key);
  const answer = parse(answerText);
  process.stdout.write(
    options.json === true
      ? `${printableJson(JSON.stringify(answer, undefined, 2))}\n`
      : `${describe(status, answer)}\n`,
  );
  if (status !== 200) process.exitCode = EXIT.none;
  else process.exitCode = answer['decision'] === 'allow' && answer['allow'] === true ? EXIT.allow : EXIT.deny;
};

export const decideCommand = (): Command =>
  new Command('decide')
    .description('ask a running decision point')
    .requiredOption('-f, --file <file>', 'the request as JSON; - reads standard input')
    .option('--url <url>', 'address of the decision point (default: pdp.listen of the settings)')
    .option('--key-file <file>', 'file with the API key')
    .option('-c, --config <file>', 'settings file (default: the environment variable EDICT_CONFIG)')
    .option('--json', 'print the whole answer as JSON')
    .addHelpText('after', '\nExit codes: 0 allow, 1 deny, 2 no decision.\n')
    .action(decide);

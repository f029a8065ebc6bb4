import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Written by scripts/test-parts/oracle.mjs. */
const installed = (): { readonly command: string; readonly opaSource: string } =>
  JSON.parse(readFileSync(path.join(root, '.cache', 'test-parts', 'oracle.json'), 'utf8')) as ReturnType<
    typeof installed
  >;

/** Fresh keys and certificates, as the oracle makes them. */
export const keysFromOracle = (): unknown => {
  const { stdout, status } = spawnSync(installed().command, ['keys'], { encoding: 'utf8' });
  if (status !== 0) throw new Error('the oracle makes no keys');
  return JSON.parse(stdout);
};

/** One of OPA's cases, compiled. Values are Rego text. Exactly one of the four expectations is there. */
export interface CompiledCase {
  readonly set: 'v0' | 'v1' | 'assets';
  readonly index: number;
  /** The case's folder, or an asset's file. */
  readonly area: string;
  readonly note: string;
  /** Base64; its entrypoint 0 is the query. */
  readonly wasm?: string;
  readonly compileError?: string;
  readonly data: string;
  readonly input?: string;
  readonly wantDefined?: boolean;
  /** A set of rows. */
  readonly wantResult?: string;
  /** The code or text of an error. */
  readonly wantError?: string;
  /** The error only shows in the interpreter's strict mode; a compiled policy answers with no row. */
  readonly strictError?: boolean;
  /** The order of an array in the answer does not count. */
  readonly sortBindings?: boolean;
  /** What the interpreter answers: an array of rows, or an error. */
  readonly topdown?: string;
  readonly topdownError?: string;
}

export interface CaseSelection {
  readonly sets?: readonly string[];
  readonly area?: string | undefined;
  readonly limit?: number | undefined;
  /** How many cases OPA compiles at the same time. */
  readonly workers: number;
}

/** Streams the cases in the order of their files: all of them together are too large to keep. */
export const compiledCases = async function* (selection: CaseSelection): AsyncGenerator<CompiledCase> {
  const { command, opaSource } = installed();
  const args = ['cases', '-opa', opaSource, '-workers', String(selection.workers)];
  if (selection.sets !== undefined) args.push('-sets', selection.sets.join(','));
  if (selection.area !== undefined) args.push('-area', selection.area);
  if (selection.limit !== undefined) args.push('-limit', String(selection.limit));
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  try {
    for await (const line of createInterface({ input: child.stdout })) yield JSON.parse(line) as CompiledCase;
    const [code] = (await ended) as [number | null];
    if (code !== 0) throw new Error(`the oracle ended with ${code ?? 'a signal'}`);
  } finally {
    child.kill();
  }
};

/** What to ask the interpreter: the value of variable x after the query. */
export interface Question {
  readonly query: string;
  readonly modules?: readonly string[];
  /** Rego text. */
  readonly input?: string;
  /** JSON text. */
  readonly data?: string;
  readonly nowNs?: string;
  /** Asks for the compiled query as well. */
  readonly wasm?: boolean;
  /** Asks for nothing else. */
  readonly compileOnly?: boolean;
}

/** `value` is Rego text; without it and without `error` the query is undefined. */
export interface OracleAnswer {
  readonly value?: string;
  readonly error?: string;
  readonly stage?: 'parse' | 'compile' | 'evaluate' | 'crash';
  /** Base64. */
  readonly wasm?: string;
}

export interface Oracle {
  ask(question: Question): Promise<OracleAnswer>;
  close(): void;
}

type Child = ChildProcessByStdio<Writable, Readable, null>;
type Settle = (answer: OracleAnswer) => void;

const CRASHED: OracleAnswer = { error: 'OPA ended itself', stage: 'crash' };

/** OPA's parser refuses a byte-order mark, inside strings too. */
const readable = (question: Question): Question =>
  question.input === undefined
    ? question
    : { ...question, input: question.input.replaceAll('\ufeff', String.raw`\ufeff`) };

/** OPA's interpreter in a process of its own, which is started again when a question ends it. */
export const startOracle = (): Oracle => {
  const { command } = installed();
  let current: { readonly child: Child; readonly waiting: Settle[] } | undefined;

  const start = (): { readonly child: Child; readonly waiting: Settle[] } => {
    // Its stack traces would drown what the run prints; that it ended shows in the answer.
    const child: Child = spawn(command, ['probes'], { stdio: ['pipe', 'pipe', 'ignore'] });
    const waiting: Settle[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => waiting.shift()?.(JSON.parse(line) as OracleAnswer));
    child.stdin.on('error', () => undefined);
    child.once('close', () => {
      if (current?.child === child) current = undefined;
      for (const settle of waiting.splice(0)) settle(CRASHED);
    });
    return { child, waiting };
  };

  return {
    ask(question) {
      current ??= start();
      const { child, waiting } = current;
      return new Promise((resolve) => {
        waiting.push(resolve);
        child.stdin.write(`${JSON.stringify({ id: 0, nowNs: '0', ...readable(question) })}\n`);
      });
    },
    close() {
      current?.child.stdin.end();
    },
  };
};

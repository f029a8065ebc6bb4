import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Type, type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { AppError, errorCode, errorMessage } from '../../services/shared/contracts/errors.ts';

/** What one unpacked file of a recording may have. */
const UNPACKED_BYTES_MAX = 256 * 1024 * 1024;

const Json = Type.Record(Type.String(), Type.Unknown());

/**
 * One recorded tool call, only what a request may be made of. The file's other members (labels, outcomes, attack) are
 * the scorer's: they are not read here, so nothing can send them.
 */
const RecordedCall = Type.Object({
  run: Type.Integer({ minimum: 0 }),
  suite: Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,62}$' }),
  user_task_id: Type.String({ minLength: 1, maxLength: 256 }),
  call_index: Type.Integer({ minimum: 0 }),
  function: Type.String({ minLength: 1, maxLength: 256 }),
  args: Json,
  prov: Type.Record(Type.String(), Type.String()),
});
export type RecordedCall = Readonly<Static<typeof RecordedCall>>;

const RecordedTask = Type.Object({
  suite: Type.String(),
  task_id: Type.String({ minLength: 1 }),
  ground_truth: Type.Array(Type.Object({ function: Type.String() })),
});
export type RecordedTask = Readonly<Static<typeof RecordedTask>>;

const RecordedTool = Type.Object({
  suite: Type.String(),
  name: Type.String({ minLength: 1 }),
  no_side_effect_per_camel: Type.Boolean(),
});
export type RecordedTool = Readonly<Static<typeof RecordedTool>>;

const Environments = Type.Record(Type.String(), Type.Object({ environment: Json }));
/** The world the tools of each suite act on, by suite. */
export type Environments = Readonly<Record<string, { readonly environment: Readonly<Record<string, unknown>> }>>;

/** A recording: calls in their recorded order, the calls of one run next to each other. */
export interface Recording {
  readonly calls: readonly RecordedCall[];
  readonly tools: readonly RecordedTool[];
  readonly tasks: readonly RecordedTask[];
  readonly environments: Environments;
}

const checkers = {
  call: Compile(RecordedCall),
  tool: Compile(RecordedTool),
  task: Compile(RecordedTask),
  environments: Compile(Environments),
};

const unpack = (file: string): string => {
  try {
    return gunzipSync(readFileSync(file), { maxOutputLength: UNPACKED_BYTES_MAX }).toString('utf8');
  } catch (cause) {
    throw new AppError('usage', `${file}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, { cause });
  }
};

const parse = <T extends TSchema>(
  checker: { Check(value: unknown): value is Static<T>; Errors(value: unknown): Iterable<{ message: string }> },
  text: string,
  at: string,
): Static<T> => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('usage', `${at}: is not JSON`, { cause });
  }
  if (checker.Check(value)) return value;
  const [first] = checker.Errors(value);
  throw new AppError('usage', `${at}: ${first?.message ?? 'has another form than a recording'}`);
};

const readLines = <T extends TSchema>(folder: string, name: string, checker: Parameters<typeof parse<T>>[0]) => {
  const file = path.join(folder, name);
  return unpack(file)
    .split('\n')
    .flatMap((line, index) => (line === '' ? [] : [parse<T>(checker, line, `${file}, line ${index + 1}`)]));
};

/** Whether `folder` holds a recording. */
export const isRecording = (folder: string): boolean => existsSync(path.join(folder, 'calls.ndjson.gz'));

/** Reads a recording in the layout of AgentDojo's recorded runs; throws `usage` naming file and line. */
export const readRecording = (folder: string): Recording => {
  const environmentsFile = path.join(folder, 'environments.json.gz');
  return {
    calls: readLines<typeof RecordedCall>(folder, 'calls.ndjson.gz', checkers.call),
    tools: readLines<typeof RecordedTool>(folder, 'tools.ndjson.gz', checkers.tool),
    tasks: readLines<typeof RecordedTask>(folder, 'tasks.ndjson.gz', checkers.task),
    environments: parse<typeof Environments>(checkers.environments, unpack(environmentsFile), environmentsFile),
  };
};

/** The calls of each run, in the order in which the runs begin. */
export const runsOf = (calls: readonly RecordedCall[]): readonly (readonly RecordedCall[])[] => {
  const runs = new Map<number, RecordedCall[]>();
  for (const call of calls) {
    const run = runs.get(call.run);
    if (run === undefined) runs.set(call.run, [call]);
    else run.push(call);
  }
  return [...runs.values()];
};

/**
 * About `limit` calls, whole runs only, spread evenly over the recording so that each suite keeps its share.
 * The same calls for the same recording and limit.
 */
export const sampleCalls = (calls: readonly RecordedCall[], limit: number): readonly RecordedCall[] => {
  if (limit >= calls.length) return calls;
  const sampled: RecordedCall[] = [];
  let seen = 0;
  for (const run of runsOf(calls)) {
    seen += run.length;
    // A run is taken when the sample lags behind its share of what was seen.
    if (sampled.length + run.length <= (seen * limit) / calls.length) sampled.push(...run);
  }
  return sampled;
};

import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { packArchive } from '../../services/shared/bundles/pack-archive.ts';
import { findOpa, packageFolder } from '../../services/cli/opa-binary.ts';
import { unpackArchive } from '../../services/shared/bundles/bundle-archive.ts';
import { AppError, errorMessage } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';

const execute = promisify(execFile);
const COMMAND_MAX_MS = 300_000;
const OUTPUT_MAX_BYTES = 256 * 1024 * 1024;

/** The benches' own policies. They are compiled when a bench runs: nothing compiled is kept. */
export const POLICIES = path.join(packageFolder(), 'scripts', 'bench', 'policies');

let found: Promise<string> | undefined;
/** The pinned `opa`. Throws `usage`, with what to do, when it is not there. */
export const opaCommand = (): Promise<string> => (found ??= findOpa());

const opa = async (args: readonly string[]): Promise<string> => {
  try {
    const options = { timeout: COMMAND_MAX_MS, maxBuffer: OUTPUT_MAX_BYTES };
    return (await execute(await opaCommand(), [...args], options)).stdout;
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('internal', `opa ${args[0]} failed: ${errorMessage(cause)}`, { cause });
  }
};

export interface RegoSource {
  /** A folder for what is made. */
  readonly scratch: string;
  readonly name: string;
  readonly source: string;
  /** Such as `bench/rbac/allow`. */
  readonly entrypoints: readonly string[];
  readonly data: unknown;
}

export interface CompiledRego {
  readonly wasm: Uint8Array;
  /** Arguments that give the same policy and data to `opa eval` and `opa bench`. */
  readonly opaArgs: readonly string[];
}

/** Compiles one policy file to WebAssembly, as `edict policy build` does. */
export const compileRego = async ({ scratch, name, source, entrypoints, data }: RegoSource): Promise<CompiledRego> => {
  const regoFile = path.join(scratch, `${name}.rego`);
  const dataFile = path.join(scratch, `${name}.json`);
  const bundle = path.join(scratch, `${name}.tar.gz`);
  writeFileSync(regoFile, source);
  writeFileSync(dataFile, JSON.stringify(data));
  const entries = entrypoints.flatMap((entrypoint) => ['--entrypoint', entrypoint]);
  await opa(['build', '--target', 'wasm', '--prune-unused', ...entries, '--output', bundle, regoFile]);
  const files = await unpackArchive(readFileSync(bundle));
  const module = files.find((file) => file.path === 'policy.wasm');
  if (module === undefined) throw new AppError('internal', `opa build gave no policy.wasm for ${name}`);
  return { wasm: module.bytes, opaArgs: ['--data', regoFile, '--data', dataFile] };
};

/** A bundle of ours with a module that decides, and its data. */
export const packBundle = async (wasm: Uint8Array, serial: number, dataJson: string): Promise<Uint8Array> => {
  const manifest = {
    roots: [''],
    wasm: [{ entrypoint: 'edict/decide', module: '/policy.wasm' }],
    metadata: { edict: { name: 'bench', serial } },
  };
  return await packArchive([
    { path: '.manifest', bytes: Buffer.from(JSON.stringify(manifest)) },
    { path: 'data.json', bytes: Buffer.from(dataJson) },
    { path: 'policy.wasm', bytes: wasm },
  ]);
};

const queryOf = (entrypoint: string): string => `data.${entrypoint.replaceAll('/', '.')}`;

const inputFile = (scratch: string, input: unknown): string => {
  const file = path.join(scratch, 'input.json');
  writeFileSync(file, JSON.stringify(input));
  return file;
};

/** What OPA's interpreter decides; undefined when the entrypoint has no value. */
export const opaDecides = async (
  scratch: string,
  opaArgs: readonly string[],
  entrypoint: string,
  input: unknown,
): Promise<unknown> => {
  const file = inputFile(scratch, input);
  const text = await opa(['eval', '--format', 'json', ...opaArgs, '--input', file, queryOf(entrypoint)]);
  const { result } = JSON.parse(text) as {
    readonly result?: readonly { readonly expressions: readonly { readonly value: unknown }[] }[];
  };
  return result?.[0]?.expressions[0]?.value;
};

export interface OpaFigures {
  readonly p50Us: number;
  readonly p99Us: number;
}

/** `opa bench`: the interpreter in its own process, on an input and data that are parsed already. */
export const opaBench = async (
  scratch: string,
  opaArgs: readonly string[],
  entrypoint: string,
  input: unknown,
): Promise<OpaFigures> => {
  const file = inputFile(scratch, input);
  const text = await opa(['bench', '--format', 'json', ...opaArgs, '--input', file, queryOf(entrypoint)]);
  const report: unknown = JSON.parse(text);
  const extra = isObject(report) && isObject(report['Extra']) ? report['Extra'] : {};
  const us = (figure: string): number => Number(extra[`histogram_timer_rego_query_eval_ns_${figure}`]) / 1_000;
  return { p50Us: us('median'), p99Us: us('99%') };
};

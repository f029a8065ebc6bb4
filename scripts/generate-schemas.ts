// Writes what `opa check` needs and what the TypeScript contract already says: the JSON Schemas of policy input and
// output, and OPA's capabilities less what the production host lacks; and the page of what compiled policies do otherwise.
// Usage: node --import tsx scripts/generate-schemas.ts [--check]
import { mkdtemp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { format } from 'prettier';
import { createRunOpa, packageFolder, type RunOpa } from '../services/cli/opa-binary.ts';
import { unpackArchive } from '../services/shared/bundles/bundle-archive.ts';
import { BUILTINS } from '../services/pdp/policy/engine/builtins.ts';
import { wasmHostBuiltins } from '../services/pdp/policy/wasm-evaluator.ts';
import { differencesPage } from './differences-page.ts';
import { PolicyInput, PolicyOutput } from '../services/shared/contracts/policy-io.ts';

interface Builtin {
  readonly name: string;
  readonly decl: { readonly args?: readonly unknown[]; readonly result?: unknown };
  readonly infix?: string;
  readonly deprecated?: boolean;
}
interface Capabilities {
  readonly builtins: readonly Builtin[];
  readonly allow_net?: readonly string[];
}

/** OPA reads draft 7 and wants the dialect named. */
const schemaText = (title: string, schema: object): string =>
  JSON.stringify({ $schema: 'http://json-schema.org/draft-07/schema#', title, ...schema });

/** Operators, what the compiler itself writes (`internal.*`) and what it erases (`print`) need no asking. */
const isCallable = ({ name, decl, infix }: Builtin): boolean =>
  infix === undefined && decl.result !== undefined && !name.startsWith('internal.');

/** Built-ins that a module asks its host for: a policy that calls every built-in is compiled, and asked. */
const findHostBuiltins = async (runOpa: RunOpa, builtins: readonly Builtin[]): Promise<ReadonlySet<string>> => {
  const scratch = await mkdtemp(path.join(tmpdir(), 'edict-capabilities-'));
  try {
    const rules = builtins.filter(isCallable).map(({ name, decl }, i) => {
      const args = (decl.args ?? []).map((_, k) => `input.a${k}`).join(', ');
      return `decide contains ${i} if ${name}(${args})`;
    });
    await writeFile(path.join(scratch, 'all.rego'), `package edict\n\n${rules.join('\n')}\n`);
    const args = ['build', '--target', 'wasm', '--entrypoint', 'edict/decide', '--output', 'all.tar.gz', 'all.rego'];
    const built = await runOpa(args, { cwd: scratch });
    if (built.exitCode !== 0) throw new Error(built.stderr || built.stdout);
    const files = await unpackArchive(await readFile(path.join(scratch, 'all.tar.gz')));
    const wasm = files.find((file) => file.path === 'policy.wasm');
    if (wasm === undefined) throw new Error('opa build gave no policy.wasm');
    return new Set(await wasmHostBuiltins(wasm.bytes));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
};

/** OPA's own list, less every built-in that production would refuse at load. */
const capabilitiesText = async (runOpa: RunOpa): Promise<string> => {
  const current = await runOpa(['capabilities', '--current']);
  const capabilities = JSON.parse(current.stdout) as Capabilities;
  const kept = capabilities.builtins.filter(({ deprecated }) => deprecated !== true);
  const host = await findHostBuiltins(runOpa, kept);
  const builtins = kept.filter(({ name }) => !host.has(name) || Object.hasOwn(BUILTINS, name));
  return JSON.stringify({ ...capabilities, builtins, allow_net: [] });
};

/** The generated files by their path inside the package. */
export const generate = async (): Promise<ReadonlyMap<string, string>> => {
  const runOpa = await createRunOpa();
  const texts = new Map([
    ['policies/schemas/input.json', schemaText('Policy input, version 1', PolicyInput)],
    ['policies/schemas/output.json', schemaText('Policy output, version 1', PolicyOutput)],
    ['services/cli/opa-capabilities.json', await capabilitiesText(runOpa)],
    ['docs/differences.md', differencesPage()],
  ]);
  const formatted = new Map<string, string>();
  for (const [file, text] of texts) {
    const parser = file.endsWith('.md') ? 'markdown' : 'json';
    formatted.set(file, await format(text, { parser, printWidth: 120, singleQuote: true }));
  }
  return formatted;
};

if (import.meta.filename === process.argv[1]) {
  const check = process.argv.includes('--check');
  for (const [file, text] of await generate()) {
    const target = path.join(packageFolder(), file);
    const there = await readFile(target, 'utf8').catch(() => undefined);
    if (there === text) continue;
    if (check) {
      console.log(`${file} is not what the contract gives: run node --import tsx scripts/generate-schemas.ts`);
      process.exitCode = 1;
      continue;
    }
    await mkdir(path.dirname(target), { recursive: true });
    await writeFile(target, text);
    console.log(`wrote ${file}`);
  }
}

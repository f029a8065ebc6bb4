import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { pack, type Header } from 'tar-stream';
import { buildBundle } from '../../../services/cli/commands/policy-build.ts';
import { readBundle } from '../../../services/pdp/policy/bundle-reader.ts';
import { packArchive } from '../../../services/shared/bundles/pack-archive.ts';
import { createRunOpa, type RunOpa } from '../../../services/cli/opa-binary.ts';
import type { BundleFile } from '../../../services/shared/contracts/bundle-digest.ts';

/** A rule that gives a valid answer whose only reason has this code. */
export const answering = (code: string, allow = false): string => `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": ${allow}, "reasons": [{"code": "${code}"}], "obligations": [], "advice": [], "legs": {"subject": ${allow}}}
`;

export interface BundleRecipe {
  readonly rego: string;
  readonly data?: object;
  /** `data.json` as it is, in place of `data`; then `roots` must say what is in it. */
  readonly dataText?: string;
  readonly name?: string;
  readonly serial?: number;
  readonly expiresAt?: string;
  /** Default: `edict` and the members of data. */
  readonly roots?: readonly string[];
  /** Compiled as others do, with every built-in of OPA. */
  readonly anyBuiltin?: boolean;
  /** `metadata.edict.limits`. */
  readonly limits?: object;
}

const withoutCapabilities =
  (runOpa: RunOpa): RunOpa =>
  (args, options) => {
    const at = args.indexOf('--capabilities');
    return runOpa(
      args.filter((_, index) => at === -1 || index < at || index > at + 1),
      options,
    );
  };

/** Builds a bundle from one Rego file, as `edict policy build` does. */
export const makeBundle = async (recipe: BundleRecipe): Promise<Uint8Array> => {
  const { rego, data, name = 'test', serial = 1, expiresAt } = recipe;
  const folder = await mkdtemp(path.join(os.tmpdir(), 'edict-test-policies-'));
  try {
    await mkdir(path.join(folder, 'edict'));
    const asking = recipe.limits === undefined ? {} : { metadata: { edict: { limits: recipe.limits } } };
    const roots = recipe.roots ?? ['edict', ...Object.keys(data ?? {})];
    await writeFile(path.join(folder, '.manifest'), JSON.stringify({ roots, rego_version: 1, ...asking }));
    await writeFile(path.join(folder, 'edict', 'edict.rego'), rego);
    const dataText = recipe.dataText ?? (data === undefined ? undefined : JSON.stringify(data));
    if (dataText !== undefined) await writeFile(path.join(folder, 'data.json'), dataText);
    const opa = await createRunOpa();
    const built = await buildBundle(recipe.anyBuiltin === true ? withoutCapabilities(opa) : opa, {
      policiesFolder: folder,
      previous: undefined,
      name,
      serial,
      ...(expiresAt === undefined ? {} : { expiresAt }),
    });
    return built.archive;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** An archive of exactly these entries, however hostile. */
export const tarOf = async (
  entries: readonly (Partial<Header> & { readonly name: string; readonly bytes?: Uint8Array | string })[],
): Promise<Uint8Array> => {
  const tar = pack();
  for (const { bytes, ...header } of entries) {
    if (bytes === undefined) tar.entry(header);
    else tar.entry(header, Buffer.from(bytes));
  }
  tar.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of tar) chunks.push(chunk as Uint8Array);
  return gzipSync(Buffer.concat(chunks));
};

const byPath = (files: readonly BundleFile[]): Map<string, BundleFile> =>
  new Map(files.map((file) => [file.path, file]));

/** The same bundle with files replaced, added or (undefined) taken away. */
export const altered = (
  files: readonly BundleFile[],
  changes: Readonly<Record<string, Uint8Array | string | undefined>>,
): Promise<Uint8Array> => {
  const result = byPath(files);
  for (const [file, bytes] of Object.entries(changes)) {
    if (bytes === undefined) result.delete(file);
    else result.set(file, { path: file, bytes: Buffer.from(bytes) });
  }
  return packArchive([...result.values()]);
};

/** A policy input that the published schema permits. */
export const inputFor = (id = 'alice'): Record<string, unknown> => ({
  version: 1,
  tenant: 'default',
  caller: { id: 'gateway', properties: {} },
  subject: { type: 'user', id, properties: {}, verified: false },
  action: { name: 'read', properties: {} },
  resource: { type: 'dataset', id: 'hr.salaries', properties: {} },
  context: { purpose: 'headcount-report' },
  session: { labels: [], step: 1 },
  time: { rfc3339: '2026-01-01T00:00:00.123Z', ns: 1_767_225_600_123_000_000 },
});

const SLOW = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": false, "reasons": [], "obligations": [], "advice": [], "legs": {}} if {
	count([1 | input.subject.id == "slow"; some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a + b < 0]) == 0
}
`;

/** Loads for many minutes, within `pdp.fuel: 2000000000`: it carries a thousand cases that take long and are right. */
export const endlessBundle = async (serial = 1): Promise<Uint8Array> => {
  const { files } = await readBundle(await makeBundle({ rego: SLOW, serial }));
  const cases = Array.from({ length: 1_000 }, (_, n) => ({
    name: `slow ${n}`,
    input: inputFor('slow'),
    expect: { allow: false },
  }));
  return await altered(files, { 'cases/slow.json': JSON.stringify({ cases }) });
};

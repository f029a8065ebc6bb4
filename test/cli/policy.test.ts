import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { type Command, CommanderError } from 'commander';
import { capabilitiesFile, NOT_SUPPLIED } from '../../services/cli/commands/opa-problems.ts';
import { runOpaTests } from '../../services/cli/commands/policy-opa.ts';
import { packArchive } from '../../services/shared/bundles/pack-archive.ts';
import { policyCommand } from '../../services/cli/commands/policy.ts';
import { OPA_VERSION, createRunOpa, findOpa, packageFolder } from '../../services/cli/opa-binary.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { isAppError } from '../../services/shared/contracts/errors.ts';
import { generate } from '../../scripts/generate-schemas.ts';
import { answering, makeBundle } from '../pdp/policy/make-bundles.ts';

interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const root = packageFolder();

/** The command in a process of its own: what a shell sees. */
const edictProcess = (args: readonly string[]): Promise<Ran> =>
  new Promise((resolve) => {
    const tsx = path.join(root, 'node_modules', 'tsx', 'dist', 'esm', 'index.mjs');
    const argv = ['--import', tsx, path.join(root, 'services', 'cli', 'main.ts'), 'policy', ...args];
    execFile(process.execPath, argv, { cwd: root }, (error, stdout, stderr) =>
      resolve({ exitCode: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    );
  });

const prepare = (command: Command, write: (text: string) => void): Command => {
  command.exitOverride().configureOutput({ writeOut: write, writeErr: write });
  for (const child of command.commands) prepare(child, write);
  return command;
};

/** The same command in this process, which starts a hundred times faster. */
const edict = async (args: readonly string[]): Promise<Ran> => {
  let stdout = '';
  const write = process.stdout.write.bind(process.stdout);
  const { exitCode } = process;
  process.exitCode = 0;
  const keep = (text: string | Uint8Array): boolean => {
    stdout += String(text);
    return true;
  };
  process.stdout.write = keep;
  try {
    await prepare(policyCommand(), keep).parseAsync([...args], { from: 'user' });
    return { exitCode: process.exitCode, stdout, stderr: '' };
  } catch (error) {
    if (error instanceof CommanderError) return { exitCode: error.exitCode === 0 ? 0 : 2, stdout, stderr: stdout };
    if (isAppError(error)) return { exitCode: 2, stdout, stderr: error.message };
    throw error;
  } finally {
    process.stdout.write = write;
    process.exitCode = exitCode;
  }
};
const documentOf = (ran: Ran): Record<string, unknown> => JSON.parse(ran.stdout) as Record<string, unknown>;

/** For a machine that is busy with other things; nothing is asserted about time. */
const SLOW_MS = 180_000;

let folder: string;
let policies: string;
let output: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-policy-'));
  policies = path.join(folder, 'policies');
  output = path.join(folder, 'bundle.tar.gz');
  await cp(path.join(root, 'policies'), policies, { recursive: true });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const edit = async (file: string, change: (text: string) => string): Promise<void> => {
  const target = path.join(policies, file);
  await writeFile(target, change(await readFile(target, 'utf8')));
};
const build = (...more: readonly string[]) => edict(['build', '--policies', policies, '-o', output, '--json', ...more]);

/** Where the call of a built-in that the host lacks stands, as OPA should say it. */
const undefinedBuiltin = async (): Promise<string> => {
  const lines = (await readFile(path.join(policies, 'mesh/region/region.rego'), 'utf8')).split('\n');
  const row = lines.findIndex((line) => line.includes('net.lookup_ip_addr'));
  const column = lines[row]!.indexOf('net.lookup_ip_addr');
  const place = `mesh/region/region.rego:${row + 1}:${column + 1}`;
  const why = 'Edict does not supply it: a decision waits for no network (docs/engine.md)';
  return `${place}: rego_type_error: undefined function net.lookup_ip_addr; ${why}`;
};

describe('edict policy build', () => {
  it('counts the serial up when the content changed, and only then', async () => {
    expect(documentOf(await build())).toMatchObject({ name: 'mesh', serial: 1, changed: true });
    const first = await readFile(output);
    expect(documentOf(await build())).toMatchObject({ serial: 1, changed: false });
    expect((await readFile(output)).equals(first)).toBe(true);
    await edit('data.json', (text) => text.replace('"calls_per_minute": 60', '"calls_per_minute": 61'));
    expect(documentOf(await build())).toMatchObject({ serial: 2, changed: true });
    expect((await readBundle(await readFile(output))).serial).toBe(2);
  });

  it('writes an expiry, keeps it, and takes it away', async () => {
    const expiry = async () => (await readBundle(await readFile(output))).manifest.metadata.edict.expires_at;
    await build('--expires-at', '2027-01-31T00:00:00Z');
    expect(await expiry()).toBe('2027-01-31T00:00:00Z');
    expect(documentOf(await build())).toMatchObject({ serial: 1, changed: false });
    expect(documentOf(await build('--expires-at', 'never'))).toMatchObject({ serial: 2, changed: true });
    expect(await expiry()).toBeUndefined();
    const past = await build('--expires-at', '2020-01-31T00:00:00Z');
    expect(past).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('2020-01-31') as string });
    for (const time of ['tomorrow', '2027-01-31', '2027-99-31T00:00:00Z'])
      expect(await build('--expires-at', time)).toMatchObject({ exitCode: 2 });
  });

  it('warns, as check does, of policies without roots: they own all data, so none can be pushed', async () => {
    const check = () => edict(['check', '--policies', policies, '--json']);
    for (const ran of [await build(), await check()]) expect(documentOf(ran)['notes']).toEqual([]);
    await rm(path.join(policies, '.manifest'));
    const owning = [expect.stringMatching(/\.manifest.*roots.*pushed/)];
    for (const ran of [await build(), await check()])
      expect({ exitCode: ran.exitCode, notes: documentOf(ran)['notes'] }).toEqual({ exitCode: 0, notes: owning });
    for (const command of ['build', 'check'])
      expect(
        (await edict([command, '--policies', policies, ...(command === 'build' ? ['-o', output] : [])])).stdout,
      ).toMatch(/warning: .*pushed/);
  });

  it('gives the same bytes wherever the folder lies', async () => {
    await build();
    const other = path.join(folder, 'elsewhere', 'rules');
    await cp(policies, other, { recursive: true });
    await edict(['build', '--policies', other, '-o', path.join(folder, 'other.tar.gz')]);
    expect((await readFile(path.join(folder, 'other.tar.gz'))).equals(await readFile(output))).toBe(true);
  });

  it('packs neither tests nor cases nor schemas', async () => {
    await build();
    const { files } = await readBundle(await readFile(output));
    const paths = files.map((file) => file.path);
    expect(paths).toContain('policy.wasm');
    expect(paths.filter((each) => /_test\.rego|cases|schemas/.test(each))).toEqual([]);
  });

  it(
    'with --check says whether the bundle is what the policies give, and writes nothing',
    async () => {
      expect((await edictProcess(['build', '--policies', policies, '-o', output, '--check'])).exitCode).toBe(1);
      await build('--serial', '7');
      const there = await readFile(output);
      expect(await build('--check')).toMatchObject({ exitCode: 0 });
      await edit('mesh/region/region.rego', (text) => text.replace('may not process', 'must not process'));
      expect(await build('--check')).toMatchObject({ exitCode: 1 });
      expect((await readFile(output)).equals(there)).toBe(true);
      await writeFile(output, 'no bundle');
      expect(await build('--check')).toMatchObject({ exitCode: 1 });
    },
    SLOW_MS,
  );

  it('takes a serial, but none that goes backwards', async () => {
    expect(documentOf(await build('--serial', '7'))).toMatchObject({ serial: 7 });
    const back = await build('--serial', '6');
    expect(back.exitCode).toBe(2);
    expect(back.stderr).toContain('never decreases');
    expect((await build('--serial', '-1')).exitCode).toBe(2);
    expect((await build('--serial', '9007199254740993')).exitCode).toBe(2);
  });

  it('writes no bundle that production would refuse', async () => {
    await edit('mesh/region/region.rego', (text) => text.replace('is_string(region)', 'net.lookup_ip_addr(region)'));
    const ran = await build();
    expect(ran.exitCode).toBe(1);
    expect(documentOf(ran)['problems']).toEqual([await undefinedBuiltin()]);
    await expect(readFile(output)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('shows where Rego does not compile', async () => {
    await edit('mesh/region/region.rego', (text) => `${text}\nbroken if {\n`);
    const ran = await build();
    expect(ran.exitCode).toBe(1);
    expect(documentOf(ran)['problems']).toEqual([
      expect.stringMatching(/^mesh\/region\/region\.rego:\d+:\d+: rego_parse_error: /),
    ]);
  });
});

describe('edict policy check', () => {
  const check = () => edict(['check', '--policies', policies, '--json']);

  it('passes for the policies of the repository', async () => {
    expect(documentOf(await check())).toMatchObject({ passed: true, problems: [] });
  });

  it('warns of what OPA compiles to something else, and fails nothing by it', async () => {
    await edit('mesh/region/region.rego', (text) => `${text}\nthird := 1 / 3\n\nlow(x) := floor(x)\n`);
    const ran = await check();
    expect(ran.exitCode).toBe(0);
    const file = 'mesh/region/region.rego';
    expect(documentOf(ran)['warnings']).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ id: 'last-digits', file, certain: true }),
        expect.objectContaining({ id: 'floor-ceil', file, certain: false }),
      ]),
    );
    const text = await edict(['check', '--policies', policies]);
    expect(text.exitCode).toBe(0);
    expect(text.stdout).toMatch(
      /warning: mesh\/region\/region\.rego:\d+:10: Last digits of numbers \(docs\/differences\.md#last-digits\)/,
    );
    expect(text.stdout).not.toContain('floor and ceil');
    expect(text.stdout).toMatch(/\d more may differ/);
    const all = await edict(['check', '--policies', policies, '--all']);
    expect(all.stdout).toMatch(/region\.rego:\d+:11: floor and ceil .*, perhaps \(docs\/differences\.md#floor-ceil\)/);
    expect(all.stdout).not.toContain('more may differ');
  });

  it('finds a member that the input does not have, and says where', async () => {
    await edit('mesh/region/region.rego', (text) =>
      text
        .replace('is_string(region)', 'is_string(input.subjekt.id)')
        .replace('package mesh', '# schemas:\n#   - input: schema.input\npackage mesh'),
    );
    const ran = await check();
    expect(ran.exitCode).toBe(1);
    expect(documentOf(ran)['problems']).toEqual([
      expect.stringMatching(/^mesh\/region\/region\.rego:\d+:\d+: rego_type_error: undefined ref: input\.subjekt\.id /),
    ]);
  });

  it('finds each call of a built-in that production lacks, and says where', async () => {
    await edit('mesh/region/region.rego', (text) => text.replace('is_string(region)', 'net.lookup_ip_addr(region)'));
    const ran = await check();
    expect(ran.exitCode).toBe(1);
    expect(documentOf(ran)['problems']).toEqual([await undefinedBuiltin()]);
  });

  it('says of what exists nowhere only that it is undefined', async () => {
    await edit('mesh/region/region.rego', (text) => text.replace('is_string(region)', 'http.sent(region)'));
    expect(documentOf(await check())['problems']).toEqual([expect.stringMatching(/undefined function http\.sent$/)]);
  });

  it('knows of each built-in of OPA that is not supplied', async () => {
    const names = (text: string) =>
      (JSON.parse(text) as { builtins: { name: string; deprecated?: boolean }[] }).builtins
        .filter(({ deprecated }) => deprecated !== true)
        .map(({ name }) => name);
    const all = names((await (await createRunOpa())(['capabilities', '--current'])).stdout);
    const supplied = names(await readFile(capabilitiesFile(), 'utf8'));
    expect(Object.keys(NOT_SUPPLIED).sort()).toEqual(all.filter((name) => !supplied.includes(name)).sort());
  });

  it('finds data that its schema does not permit', async () => {
    await edit('data.json', (text) => text.replace('"clearance": "restricted"', '"clearance": "secret"'));
    const ran = await check();
    expect(ran.exitCode).toBe(1);
    expect(JSON.stringify(documentOf(ran)['problems'])).toContain('/directory/subjects/user/alice/clearance');
  });
});

describe('edict policy fmt', () => {
  it('lists with --check and mends without', async () => {
    await edit('mesh/region/region.rego', (text) => text.replace('\tis_string', '      is_string'));
    const fmt = (...more: readonly string[]) => edict(['fmt', '--policies', policies, ...more]);
    const listed = await fmt('--check');
    expect(listed.exitCode).toBe(1);
    expect(listed.stdout).toContain('region.rego');
    expect((await fmt()).exitCode).toBe(0);
    expect((await fmt('--check')).exitCode).toBe(0);
  });
});

describe('edict policy test', () => {
  const test = (...more: readonly string[]) => edict(['test', '--policies', policies, '--json', ...more]);

  it(
    'passes for the policies of the repository, on OPA and on the engine of production',
    async () => {
      const ran = await test();
      expect(ran.exitCode).toBe(0);
      const { engine, coverage, results } = documentOf(ran) as {
        engine: string;
        coverage: { percent: number };
        results: { suite: string }[];
      };
      expect(engine).toMatch(/^edict-wasm\//);
      expect(coverage.percent).toBeGreaterThanOrEqual(95);
      expect(results.some((result) => result.suite.includes('cases'))).toBe(true);
      expect(results.some((result) => result.suite.startsWith('data.mesh'))).toBe(true);
    },
    SLOW_MS,
  );

  it(
    'names what failed, in text and in JUnit XML',
    async () => {
      await edit('mesh/clearance/clearance.rego', (text) => text.replace('>= least', '>= 0'));
      const junit = path.join(folder, 'junit.xml');
      const ran = await edict(['test', '--policies', policies, '--junit', junit]);
      expect(ran.exitCode).toBe(1);
      expect(ran.stdout).toMatch(/FAIL .*cases.*delegation\.json: /);
      expect(ran.stdout).toMatch(/FAIL data\.mesh\.clearance_test: .* \(.*clearance_test\.rego:\d+\)/);
      expect(ran.stdout).toMatch(/\d+ passed, [1-9]\d* failed/);
      const xml = await readFile(junit, 'utf8');
      expect(xml).toContain('<failure');
      expect(xml).toContain('classname="data.mesh.clearance_test"');
    },
    SLOW_MS,
  );

  it(
    'fails below the threshold, and names the rows',
    async () => {
      await edit('mesh/region/region.rego', (text) => `${text}\nunused if input.action.name == "never"\n`);
      const ran = await edict(['test', '--policies', policies, '--threshold', '100']);
      expect(ran.exitCode).toBe(1);
      expect(ran.stdout).toContain('not covered: mesh/region/region.rego:');
    },
    SLOW_MS,
  );

  it(
    'refuses a case whose input the schema does not permit',
    async () => {
      await edit('cases/delegation.json', (text) => text.replace('"version": 1,', '"version": 2,'));
      const ran = await test();
      expect(ran.exitCode).toBe(1);
      expect(ran.stdout).toContain('input: /version');
    },
    SLOW_MS,
  );

  it(
    'says that a run without any test is no success',
    async () => {
      await writeFile(path.join(folder, 'only.rego'), '');
      const empty = path.join(folder, 'empty');
      await cp(path.join(policies, 'edict', 'edict.rego'), path.join(empty, 'edict', 'edict.rego'));
      await cp(path.join(policies, 'mesh'), path.join(empty, 'mesh'), {
        recursive: true,
        filter: (file) => !file.endsWith('_test.rego'),
      });
      const ran = await edict(['test', '--policies', empty, '--threshold', '0', '--json']);
      expect(ran.exitCode).toBe(1);
      expect(documentOf(ran)).toMatchObject({ passed: false, counts: { tests: 0 } });
    },
    SLOW_MS,
  );
});

describe('edict policy inspect', () => {
  it('shows identity, files, entrypoints and built-ins', async () => {
    const ran = await edictProcess(['inspect', 'bundles/mesh.tar.gz', '--json']);
    const { digest } = await readBundle(await readFile(path.join(root, 'bundles', 'mesh.tar.gz')));
    expect(documentOf(ran)).toMatchObject({ name: 'mesh', digest, entrypoints: ['edict/decide'], builtins: [] });
  });

  it('shows the limits that a bundle asks for, within which it was loaded', async () => {
    const rego = answering('never');
    await writeFile(output, await makeBundle({ rego, limits: { fuel: 20_000, input: { depth: 8 } } }));
    const ran = await edictProcess(['inspect', output]);
    expect(ran.stdout).toContain('limits       {"fuel":20000,"input":{"depth":8}}');
    await writeFile(output, await makeBundle({ rego, limits: { fuel: 1_000, policy_memory: '64KiB' } }));
    const small = await edictProcess(['inspect', output]);
    expect(small).toMatchObject({ exitCode: 1, stdout: '' });
    expect(small.stderr).toContain('cannot be set up in 65536 bytes');
  });

  it('exits with 1 for what is no bundle and 2 for what is not there', async () => {
    await writeFile(output, 'no bundle');
    const ran = await edictProcess(['inspect', output]);
    expect(ran).toMatchObject({ exitCode: 1, stdout: '' });
    expect(ran.stderr).toContain('bundle_invalid');
    const none = await edict(['inspect', path.join(folder, 'none')]);
    expect(none.exitCode).toBe(2);
    expect(none.stderr).toContain('there is no');
  });
});

describe('edict policy sign', () => {
  const key = (name: string): string => path.join(folder, name);
  beforeEach(async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await writeFile(key('private.pem'), privateKey.export({ type: 'sec1', format: 'pem' }));
    await writeFile(key('public.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
    await cp(path.join(root, 'bundles', 'mesh.tar.gz'), output);
  });

  it('signs in place, keeps the digest, and inspect verifies it', async () => {
    const { digest } = await readBundle(await readFile(output));
    const sign = ['sign', output, '--signing-key', key('private.pem'), '--key-id', 'ci', '--scope', 'write', '--json'];
    expect(documentOf(await edict(sign))).toMatchObject({ digest, signature: { kid: 'ci', alg: 'ES256' } });
    const inspect = ['inspect', output, '--json'];
    expect(documentOf(await edict(inspect))).toMatchObject({ digest, signature: { verified: false } });
    const verify = [...inspect, '--verification-key', key('public.pem'), '--scope', 'write'];
    expect(documentOf(await edict(verify))).toMatchObject({ digest, signature: { scope: 'write', verified: true } });
    expect(await edict(verify.slice(0, -2))).toMatchObject({ exitCode: 1 });
  });

  it('signs a delta, which has no digest of its own', async () => {
    const { manifest, name, digest: base } = await readBundle(await readFile(output));
    const edictMember = { ...manifest.metadata.edict, serial: 9, base };
    const files = [
      { path: '.manifest', bytes: Buffer.from(JSON.stringify({ ...manifest, metadata: { edict: edictMember } })) },
      { path: 'patch.json', bytes: Buffer.from('{"data": [{"op": "remove", "path": "/mesh/x"}]}') },
    ];
    await writeFile(output, await packArchive(files));
    const signed = documentOf(await edict(['sign', output, '--signing-key', key('private.pem'), '--json']));
    expect(signed).toMatchObject({ name, serial: 9, signature: { alg: 'ES256', files: 2 } });
    expect(signed).not.toHaveProperty('digest');
  });

  it('is verified by opa', async () => {
    await edict(['sign', output, '--signing-key', key('private.pem')]);
    const args = ['build', '--bundle', output, '--signing-alg', 'ES256', '--output', path.join(folder, 'out.tar.gz')];
    const opa = await createRunOpa();
    expect(await opa([...args, '--verification-key', key('public.pem')])).toMatchObject({ exitCode: 0 });
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await writeFile(key('other.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
    expect(await opa([...args, '--verification-key', key('other.pem')])).toMatchObject({ exitCode: 1 });
  });

  it('writes nothing without a key, or with one that does not fit', async () => {
    const there = await readFile(output);
    expect(await edict(['sign', output])).toMatchObject({ exitCode: 2 });
    expect(await edict(['sign', output, '--signing-key', key('public.pem')])).toMatchObject({ exitCode: 2 });
    const wrong = ['sign', output, '--signing-key', key('private.pem'), '--signing-alg', 'RS256'];
    expect(await edict(wrong)).toMatchObject({ exitCode: 2 });
    expect(await edict(['sign', output, '--signing-alg', 'none'])).toMatchObject({ exitCode: 2 });
    expect((await readFile(output)).equals(there)).toBe(true);
  });

  it('is part of a build with --sign', async () => {
    expect(documentOf(await build('--sign', '--signing-key', key('private.pem')))).toMatchObject({ signed: true });
    const verify = ['inspect', output, '--verification-key', key('public.pem')];
    expect((await edict(verify)).stdout).toContain('key default, ES256, scope "", verified');
    // An unchanged bundle keeps the signature that it has.
    expect(documentOf(await build())).toMatchObject({ changed: false, signed: false });
    expect(await edict(verify)).toMatchObject({ exitCode: 0 });
    expect(await build('--signing-key', key('private.pem'))).toMatchObject({ exitCode: 2 });
    expect(await build('--check', '--sign', '--signing-key', key('private.pem'))).toMatchObject({ exitCode: 2 });
  });
});

describe('edict policy new', () => {
  it('writes a module and tests that pass, and overwrites nothing', async () => {
    const make = () => edict(['new', 'mesh/reason_given', '--policies', policies]);
    expect((await make()).exitCode).toBe(0);
    expect((await edict(['check', '--policies', policies])).exitCode).toBe(0);
    expect((await edict(['fmt', '--check', '--policies', policies])).exitCode).toBe(0);
    const tested = await runOpaTests(await createRunOpa(), policies);
    const own = tested.filter((test) => test.suite === 'data.mesh.reason_given_test');
    expect(own.map((test) => test.passed)).toEqual([true, true]);
    expect(await make()).toMatchObject({ exitCode: 2 });
    expect((await edict(['new', '../outside', '--policies', policies])).exitCode).toBe(2);
    for (const name of ['mesh/if', 'mesh/with/approval', 'mesh/input']) {
      const ran = await edict(['new', name, '--policies', policies]);
      expect(ran).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/reserved/) as string });
    }
    const outside = await edict(['new', 'meshes/approval', '--policies', policies]);
    expect(outside).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/edict, mesh, directory/) as string });
    expect(existsSync(path.join(policies, 'meshes'))).toBe(false);
    await rm(path.join(policies, '.manifest'));
    expect((await edict(['new', 'meshes/approval', '--policies', policies])).exitCode).toBe(0);
  });

  it('writes a module that denies once it is wired as it says', async () => {
    const made = await edict(['new', 'mesh/approval', '--policies', policies]);
    const importing = 'import data.mesh.approval';
    const denying = '_denials contains reason if some reason in approval.deny';
    expect(made.stdout).toContain(importing);
    expect(made.stdout).toContain(denying);
    await edit('edict/edict.rego', (text) =>
      `${text}\n${denying}\n`.replace('import data.mesh.clearance', `${importing}\n$&`),
    );
    const wired = `package edict.wired_test

import data.edict
import data.mesh.fixture_test as fixture

test_the_module_denies if {
	decision := edict.decide with input as fixture.request with data.directory as fixture.directory
	not decision.allow
	[reason.code | some reason in decision.reasons] == ["reason_missing"]
}

test_it_permits_what_states_a_reason if {
	request := object.union(fixture.request, {"context": {"reason": "audit"}})
	edict.allow with input as request with data.directory as fixture.directory
}
`;
    await writeFile(path.join(policies, 'edict', 'wired_test.rego'), wired);
    const tested = await runOpaTests(await createRunOpa(), policies);
    const own = tested.filter((test) => test.suite === 'data.edict.wired_test');
    expect(own.map((test) => test.passed)).toEqual([true, true]);
  });
});

describe('edict policy', () => {
  it('says in --help of every command what the exit codes mean', async () => {
    for (const args of [[], ['check'], ['fmt'], ['test'], ['build'], ['sign'], ['inspect'], ['new']]) {
      const ran = await edict([...args, '--help']);
      expect(ran.exitCode).toBe(0);
      expect(ran.stdout).toContain('Exit codes');
    }
  });

  it('exits with 2 for an unknown option or folder', async () => {
    expect((await edict(['check', '--nonsense'])).exitCode).toBe(2);
    const ran = await edict(['check', '--policies', path.join(folder, 'none')]);
    expect(ran.exitCode).toBe(2);
    expect(ran.stderr).toContain('there is no folder');
  });
});

describe('the OPA command', () => {
  it('is found in the right version', async () => {
    const run = await createRunOpa();
    expect((await run(['version'])).stdout).toContain(OPA_VERSION);
  });

  it('is refused when EDICT_OPA names something else, and it says how to get it', async () => {
    await expect(findOpa({ EDICT_OPA: process.execPath })).rejects.toMatchObject({ code: 'usage' });
    await expect(findOpa({ EDICT_OPA: path.join(folder, 'none') })).rejects.toThrow('install-opa');
  });
});

describe('generated files', () => {
  it('are what the contract and the pinned OPA give', async () => {
    for (const [file, text] of await generate()) {
      expect({ file, text: await readFile(path.join(root, file), 'utf8') }).toEqual({ file, text });
    }
  });
});

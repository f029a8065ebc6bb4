import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { runOpaTests } from '../../services/cli/commands/policy-opa.ts';
import { createRunOpa, packageFolder } from '../../services/cli/opa-binary.ts';
import { edict } from './policy-command.ts';

let policies: string;
beforeEach(async () => {
  policies = await mkdtemp(path.join(os.tmpdir(), 'edict-policy-new-'));
  await cp(path.join(packageFolder(), 'policies'), policies, { recursive: true });
});
afterEach(() => rm(policies, { recursive: true, force: true }));

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
    const denying = '_vetoes contains reason if some reason in approval.deny';
    expect(made.stdout).toContain(importing);
    expect(made.stdout).toContain(denying);
    const main = path.join(policies, 'edict', 'edict.rego');
    const before = await readFile(main, 'utf8');
    const importingToo = before.replace('import data.mesh.clearance', `${importing}\n$&`);
    await writeFile(main, `${importingToo}\n${denying}\n`);
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

import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Drawn } from '../../services/pdp/core/evaluate.ts';
import { patchesBetween } from '../../services/pdp/core/pushed-data.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { createWasmEvaluator } from '../../services/pdp/policy/wasm-evaluator.ts';
import { makeBundle } from '../pdp/policy/make-bundles.ts';
import { startEmbedded, startExternal, writeSecret, type Deployment } from '../support/deployment.ts';
import { until } from './support/until.ts';

const minutes = 60_000;
/** Draws by chance, and does not end for one action: both must come out the same when it is evaluated again. */
const rego = (least: number) => `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": allow, "reasons": [{"code": sprintf("grade_%d", [grade]), "message": sprintf("%d", [rand.intn("ticket", 1000000000)])}], "obligations": [], "advice": [], "legs": {"subject": allow}}

default grade := 0

grade := data.users[input.subject.id].grade

default allow := false

allow if {
	grade > ${least}
	input.action.name == "read"
}

allow if {
	input.action.name == "spin"
	count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a + b < 0]) > 0
}
`;

interface Decided {
  readonly decision_id: string;
  readonly allow: boolean;
  readonly reasons: readonly { readonly code: string }[];
  readonly policy: {
    readonly bundles: readonly { readonly digest: string }[];
    readonly data: { readonly revision: number; readonly digest: string };
  };
}

interface DecisionEvent {
  readonly data: {
    readonly input: unknown;
    readonly evaluation: { readonly time_ns: string; readonly nondeterministic: Drawn };
    readonly policy: Decided['policy'];
  };
}

describe('the pushed data that decisions saw', () => {
  const files = mkdtempSync(path.join(os.tmpdir(), 'edict-pushed-artifacts-'));
  const bundleFile = path.join(files, 'policy.tar.gz');
  const otherFile = path.join(files, 'other.tar.gz');
  beforeAll(async () => {
    await writeFile(bundleFile, await makeBundle({ rego: rego(2) }));
    await writeFile(otherFile, await makeBundle({ rego: rego(1) }));
  });
  afterAll(() => rmSync(files, { recursive: true, force: true }));

  const settings = { pdp: { bundles: [bundleFile] } };
  const modes: readonly (readonly [string, () => Promise<Deployment>])[] = [
    ['on one machine with the embedded database', () => startEmbedded({ tenants: ['acme'], settings })],
    ['through a real broker and a real database server', () => startExternal({ tenants: ['acme'], settings })],
  ];
  it.each(modes)(
    'is fetched from the ledger by its digest, and leads to the same answers again, %s',
    async (_mode, start) => {
      const deployment = await start();
      try {
        const put = async (at: string, value: unknown): Promise<Decided['policy']['data']> => {
          const response = await fetch(`${deployment.pdp.url}/v1/data/${at}`, {
            method: 'PUT',
            headers: {
              authorization: `Bearer ${deployment.keys('acme').decide}`,
              'content-type': 'application/json',
            },
            body: JSON.stringify(value),
          });
          expect(response.status).toBe(200);
          return ((await response.json()) as { data: Decided['policy']['data'] }).data;
        };
        const decide = async (): Promise<Decided> => {
          const { status, body } = await deployment.gateway('acme').post('/decide', {
            subject: { type: 'user', id: 'user-7' },
            action: { name: 'read' },
            resource: { type: 'x', id: 'y' },
          });
          expect(status).toBe(200);
          return body as Decided;
        };
        const users = Object.fromEntries(
          Array.from({ length: 1_500 }, (_, n) => [`user-${n}`, { grade: 1, note: `n${n}`.repeat(8) }]),
        );
        const pushed = [await put('users', users)];
        const decided = [await decide()];
        pushed.push(await put('users/user-7/grade', 3));
        decided.push(await decide());
        await deployment.stop();
        await deployment.start();
        decided.push(await decide());
        pushed.push(await put('users/user-7', { grade: 2 }));
        decided.push(await decide());
        expect(decided.map(({ allow }) => allow)).toEqual([false, true, true, false]);
        expect(decided.map(({ policy }) => policy.data)).toEqual([pushed[0], pushed[1], pushed[1], pushed[2]]);

        const keyFile = writeSecret(deployment.folder, 'auditor.key', deployment.keys('acme').audit);
        const fetched = async (digest: string): Promise<Buffer> => {
          const out = path.join(deployment.folder, digest.slice(7, 20));
          await until(
            `${digest} is in the ledger`,
            async () => {
              const { code, stderr } = await deployment.run(
                'audit',
                'artifact',
                digest,
                '--out',
                out,
                '--key-file',
                keyFile,
              );
              if (code !== 0) throw new Error(stderr);
              return true;
            },
            { everyMs: 500 },
          );
          return await readFile(out);
        };
        for (const { decision_id: id, policy, allow, reasons } of decided) {
          const event = await until('the decision is in the ledger', async () => {
            const { status, body } = await deployment.auditor('acme').get(`/v1/decisions/${id}`);
            return status === 200 ? (body as { event: DecisionEvent }).event : undefined;
          });
          expect(event.data.policy.data).toEqual(policy.data);
          const bundle = await readBundle(await fetched(event.data.policy.bundles[0]!.digest));
          const data: unknown = JSON.parse(String(await fetched(event.data.policy.data.digest)));
          const evaluator = (await createWasmEvaluator(bundle)).fork();
          evaluator.changeData(patchesBetween({}, data, []), () => patchesBetween({}, data, []));
          while (!evaluator.work(() => true));
          const nowMs = Number(BigInt(event.data.evaluation.time_ns) / 1_000_000n);
          expect(
            evaluator.evaluate(JSON.stringify(event.data.input), nowMs, event.data.evaluation.nondeterministic),
          ).toMatchObject({
            outcome: 'answer',
            value: { allow, reasons },
          });
        }
        const spun = await deployment.gateway('acme').post('/decide', {
          subject: { type: 'user', id: 'user-7' },
          action: { name: 'spin' },
          resource: { type: 'x', id: 'y' },
        });
        expect(spun).toMatchObject({ status: 500, body: { code: 'policy_fuel' } });
        const ids = [...decided, spun.body as Decided].map(({ decision_id: id }) => id);
        await until('the fault is in the ledger', async () => {
          const { status } = await deployment.auditor('acme').get(`/v1/decisions/${ids[4]}`);
          return status === 200 ? true : undefined;
        });
        const replayed = await deployment.run('policy', 'replay', ...ids, '--key-file', keyFile, '--json');
        expect(JSON.parse(replayed.stdout)).toMatchObject({
          passed: true,
          counts: { same: 5, changed: 0, aged: 0, not_replayable: 0 },
          results: ids.map((id) => ({ decision_id: id, verdict: 'same', differences: [] })),
        });
        expect(replayed.code).toBe(0);
        const others = await deployment.run(
          'policy',
          'replay',
          '--decision=deny',
          '--action=read',
          `--bundle=${otherFile}`,
          `--key-file=${keyFile}`,
        );
        expect(others.stdout.split('\n')).toEqual([
          `changed         ${ids[3]}  deny grade_2 -> allow grade_2  [decision]`,
          '2 decisions: 1 the same, 1 changed, 0 denied for their age, 0 not replayable',
          '',
        ]);
        expect(others.code).toBe(1);
        const verified = await deployment.run('audit', 'verify', '--key-file', keyFile, '--json');
        expect(verified.code).toBe(0);
      } finally {
        await deployment.close();
      }
    },
    3 * minutes,
  );
});

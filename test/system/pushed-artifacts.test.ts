import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { patchesBetween } from '../../services/pdp/core/pushed-data.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { createWasmEvaluator } from '../../services/pdp/policy/wasm-evaluator.ts';
import { makeBundle } from '../pdp/policy/make-bundles.ts';
import { startEmbedded, startExternal, writeSecret, type Deployment } from '../support/deployment.ts';
import { until } from './support/until.ts';

const minutes = 60_000;
const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": allow, "reasons": [{"code": sprintf("grade_%d", [grade])}], "obligations": [], "advice": [], "legs": {"subject": allow}}

default grade := 0

grade := data.users[input.subject.id].grade

default allow := false

allow if grade > 2
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
    readonly evaluation: { readonly time_ns: string };
    readonly policy: Decided['policy'];
  };
}

describe('the pushed data that decisions saw', () => {
  const files = mkdtempSync(path.join(os.tmpdir(), 'edict-pushed-artifacts-'));
  const bundleFile = path.join(files, 'policy.tar.gz');
  beforeAll(async () => writeFile(bundleFile, await makeBundle({ rego: REGO })));
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
          expect(evaluator.evaluate(JSON.stringify(event.data.input), nowMs)).toMatchObject({
            outcome: 'answer',
            value: { allow, reasons },
          });
        }
        const verified = await deployment.run('audit', 'verify', '--key-file', keyFile, '--json');
        expect(verified.code).toBe(0);
      } finally {
        await deployment.close();
      }
    },
    3 * minutes,
  );
});

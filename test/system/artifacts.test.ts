import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { startEmbedded, startExternal, writeSecret, type Deployment } from '../support/deployment.ts';
import { repositoryRoot } from '../support/prepared-parts.ts';
import { until } from './support/until.ts';

const minutes = 60_000;
const REQUEST = {
  subject: { type: 'user', id: 'alice' },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'hr.salaries' },
  context: { purpose: 'headcount-report' },
};

describe('the bundle that made a decision', () => {
  const modes: readonly (readonly [string, () => Promise<Deployment>])[] = [
    ['on one machine with the embedded database', () => startEmbedded({ tenants: ['acme'] })],
    ['through a real broker and a real database server', () => startExternal({ tenants: ['acme'] })],
  ];
  it.each(modes)(
    'is fetched by the digest that the decision names, and was sent once over two starts, %s',
    async (_mode, start) => {
      const deployment = await start();
      try {
        const digestOf = async (): Promise<string> => {
          const { status, body } = await deployment.gateway('acme').post('/decide', REQUEST);
          expect(status).toBe(200);
          return (body as { policy: { bundles: readonly { digest: string }[] } }).policy.bundles[0]!.digest;
        };
        const digest = await digestOf();
        const out = path.join(deployment.folder, 'fetched.tar.gz');
        const keyFile = writeSecret(deployment.folder, 'auditor.key', deployment.keys('acme').audit);
        const fetchIt = () => deployment.run('audit', 'artifact', digest, '--out', out, '--key-file', keyFile);
        const fetched = (): Promise<true> =>
          until('the artifact is in the ledger', async () => ((await fetchIt()).code === 0 ? true : undefined), {
            everyMs: 500,
          });
        /** Entries of artifacts since the audit service started; the system tenant decides with the bundle too. */
        const artifacts = async (): Promise<string | undefined> => {
          const { body } = await deployment.auditor('edict').get('/metrics');
          return /^edict_ledger_entries_total\{[^}]*kind="artifact"[^}]*\} (\d+)$/m.exec(String(body))?.[1];
        };
        await fetched();
        expect(await until('both tenants have it', async () => ((await artifacts()) === '2' ? '2' : undefined))).toBe(
          '2',
        );
        const archive = await readFile(path.join(repositoryRoot, 'bundles', 'mesh.tar.gz'));
        expect((await readFile(out)).equals(archive)).toBe(true);
        expect((await readBundle(await readFile(out))).digest).toBe(digest);

        await deployment.stop();
        await deployment.start();
        await rm(out);
        expect(await digestOf()).toBe(digest);
        await fetched();
        await until('the second decision is in the ledger', async () => {
          const { body } = await deployment.auditor('acme').get('/v1/decisions');
          return (body as { decisions: readonly unknown[] }).decisions.length === 2 ? true : undefined;
        });
        expect(await artifacts()).toBeUndefined();
        const unknown = `sha256:${'0'.repeat(64)}`;
        expect(await deployment.run('audit', 'artifact', unknown, '--out', out, '--key-file', keyFile)).toMatchObject({
          code: 2,
        });
        const verified = await deployment.run('audit', 'verify', '--key-file', keyFile, '--json');
        expect(verified.code).toBe(0);
        const { body } = await deployment.auditor('acme').get('/v1/emitters');
        const [{ boots }] = (body as { emitters: [{ boots: readonly { boot: string; holes: unknown }[] }] }).emitters;
        expect(boots.map(({ holes }) => holes)).toEqual([[], []]);
      } finally {
        await deployment.close();
      }
    },
    3 * minutes,
  );
});

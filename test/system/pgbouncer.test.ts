import pg from 'pg';
import { pino } from 'pino';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { startSigner } from '../../services/audit/signer-main.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';
import { startExternal, type ExternalDeployment } from '../support/deployment.ts';
import { startPgBouncer, type PgBouncer } from '../support/pgbouncer.ts';
import { expectLedgerHolds, verify } from './support/ledger.ts';
import { startLoad } from './support/load.ts';
import { until } from './support/until.ts';

const LOGINS = ['ledger_owner', 'ledger_writer', 'ledger_reader', 'ledger_signer', 'ledger_maintainer', 'keys_owner'];

describe('PgBouncer in transaction mode before the database', () => {
  let deployment: ExternalDeployment;
  let pgbouncer: PgBouncer;

  beforeAll(async () => {
    deployment = await startExternal({
      tenants: ['acme'],
      pooler: async (postgres) => {
        pgbouncer = await startPgBouncer(postgres, LOGINS);
        return pgbouncer;
      },
      settings: { audit: { seal_interval: '200ms' }, signer: { interval: '100ms' } },
    });
  }, 240_000);
  afterAll(() => deployment.close());

  /** Rows of PgBouncer's own tables. */
  const show = async (what: string): Promise<readonly Readonly<Record<string, string>>[]> => {
    const client = new pg.Client({ connectionString: pgbouncer.consoleUrl });
    await client.connect();
    try {
      return (await client.query<Readonly<Record<string, string>>>(`show ${what}`)).rows;
    } finally {
      await client.end();
    }
  };

  it('takes, signs, answers and verifies as without it', async () => {
    const { settings } = loadSettings({ file: deployment.configFile, environment: {}, services: ['signer'] });
    const signer = await startSigner(settings, { logger: pino({ level: 'silent' }) });
    try {
      const load = startLoad(deployment, { pauseMs: 1 });
      await load.untilAnswered(300);
      await expectLedgerHolds(deployment, await load.stop());
      const report = await until('a checkpoint covers the ledger', async () => {
        const found = await verify(deployment, 'acme');
        return found.verdicts.authenticity.status === 'ok' ? found : undefined;
      });
      expect(report.verdicts.append_only.status).not.toBe('failed');
    } finally {
      await signer.close();
    }
    // It was all of it that went through, and shared what there was.
    const pools = await show('pools');
    expect(new Set(pools.filter(({ user }) => user !== 'pgbouncer').map((pool) => pool['pool_mode']))).toEqual(
      new Set(['transaction']),
    );
    const seen = new Set(pools.map(({ user }) => user));
    for (const login of ['ledger_writer', 'ledger_reader', 'ledger_signer', 'keys_owner'])
      expect(seen).toContain(login);
    const servers = await show('servers');
    expect(servers.length).toBeGreaterThan(0);
    expect(servers.filter(({ user }) => user === 'ledger_writer').length).toBeLessThanOrEqual(2);
  }, 180_000);

  it('more transactions than there are server connections wait for each other, and keep their limits', async () => {
    const url = pgbouncer.url('ledger_writer', new URL(deployment.ledgerUrl).pathname.slice(1));
    const database = connectPostgres(url, { poolSize: 12, isPooled: true, prepares: true, lockTimeoutMs: 1_234 });
    try {
      const sessions = await Promise.all(
        Array.from({ length: 60 }, () =>
          database.transaction(async (sql) => {
            const [first] = await sql.query<{ pid: number; lock_timeout: string }>(
              `select pg_backend_pid() as pid, current_setting('lock_timeout') as lock_timeout where $1::int = 1`,
              [1],
            );
            const [second] = await sql.query<{ pid: number }>('select pg_backend_pid() as pid where $1::int = 1', [1]);
            return { ...first, same: first?.pid === second?.pid };
          }),
        ),
      );
      expect(new Set(sessions.map(({ lock_timeout: limit, same }) => `${limit} ${same}`))).toEqual(
        new Set(['1234ms true']),
      );
      expect(new Set(sessions.map(({ pid }) => pid)).size).toBeLessThanOrEqual(2);
      // Nothing stays behind for whoever gets the session next.
      const left = await Promise.all(
        Array.from({ length: 20 }, () => database.query<{ t: string }>(`select current_setting('lock_timeout') as t`)),
      );
      expect(new Set(left.flat().map(({ t }) => t))).toEqual(new Set(['0']));
    } finally {
      await database.close();
    }
  }, 60_000);

  it('is refused without the setting, so nobody runs half of it', async () => {
    const url = pgbouncer.url('ledger_writer', new URL(deployment.ledgerUrl).pathname.slice(1));
    const database = connectPostgres(url, { poolSize: 1 });
    await expect(database.query('select 1')).rejects.toMatchObject({
      message: expect.stringMatching(/unsupported startup parameter/) as string,
    });
    await database.close();
  }, 60_000);
});

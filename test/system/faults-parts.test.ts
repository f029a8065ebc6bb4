import { Kafka, logLevel, type Admin } from 'kafkajs';
import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { DECISIONS_TOPIC } from '../../services/shared/contracts/events.ts';
import { startExternal, type ExternalDeployment } from '../support/deployment.ts';
import { runStatements } from '../support/postgres.ts';
import { expectComplete, expectInLedger, expectLedgerHolds, expectVerified, verify } from './support/ledger.ts';
import { startLoad } from './support/load.ts';
import { readRows, withClient } from './support/rows.ts';
import { until } from './support/until.ts';

const minutes = 60_000;

/** Decides for a while and gives what was answered. */
async function decideSome(deployment: ExternalDeployment, count: number) {
  const load = startLoad(deployment);
  await load.untilAnswered(count);
  return await load.stop();
}

async function withAdmin<T>(deployment: ExternalDeployment, work: (admin: Admin) => Promise<T>): Promise<T> {
  const kafka = new Kafka({ clientId: 'faults', brokers: [...deployment.kafka.brokers], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

const messagesIn = (offsets: readonly { readonly low: string; readonly high: string }[]): number =>
  offsets.reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0);

/** Waits until the broker has at least `count` messages, then makes it forget all that it has acknowledged. */
async function loseMessages(deployment: ExternalDeployment, count: number): Promise<void> {
  await withAdmin(deployment, async (admin) => {
    const offsets = await until(`${count} messages in the broker`, async () => {
      const now = await admin.fetchTopicOffsets(DECISIONS_TOPIC);
      return messagesIn(now) >= count ? now : undefined;
    });
    await admin.deleteTopicRecords({
      topic: DECISIONS_TOPIC,
      partitions: offsets.map(({ partition, high }) => ({ partition, offset: high })),
    });
  });
}

const messagesNow = async (deployment: ExternalDeployment): Promise<number> =>
  await withAdmin(deployment, async (admin) => messagesIn(await admin.fetchTopicOffsets(DECISIONS_TOPIC)));

/** A copy of the ledger's database as it is now, to be restored later. */
async function backUp({ postgres, ledgerUrl }: ExternalDeployment): Promise<string> {
  return await postgres.createDatabase(new URL(ledgerUrl).pathname.slice(1));
}

async function restore({ postgres, ledgerUrl }: ExternalDeployment, backup: string): Promise<void> {
  const name = new URL(ledgerUrl).pathname.slice(1);
  await runStatements(
    postgres.adminUrl,
    `drop database "${name}" with (force)`,
    `alter database "${backup}" rename to "${name}"`,
  );
}

describe('faults with a broker and a database server', () => {
  let deployment: ExternalDeployment;
  beforeAll(async () => {
    deployment = await startExternal({ tenants: ['acme', 'late'], withoutLedger: ['late'] });
  }, 2 * minutes);
  afterAll(async () => {
    await deployment.close();
  }, minutes);

  it(
    'quarantines events of a tenant without a ledger once, and enters them when the ledger is made',
    async () => {
      const answered = await decideSome(deployment, 100);
      const late = answered.filter(({ tenant }) => tenant === 'late');
      expect(late.length).toBeGreaterThan(0);
      await until('all of them in quarantine', async () => {
        const rows = await readRows(deployment.ledgerUrl, 'edict');
        return rows.filter(({ kind }) => kind === 'quarantine').length >= late.length ? true : undefined;
      });
      await deployment.createLedger('late');
      await expectLedgerHolds(deployment, answered);
      const noted = await withClient(deployment.ledgerUrl, async (client) => {
        const { rows } = await client.query<{ seq: string }>(
          `select seq from edict.unknown_tenant_event where tenant = 'late' order by seq`,
        );
        return rows.map(({ seq }) => BigInt(seq));
      });
      // One entry an event: there is no other quarantine entry than those that an event is noted with.
      const quarantined = (await readRows(deployment.ledgerUrl, 'edict')).filter(({ kind }) => kind === 'quarantine');
      expect(quarantined.map(({ seq }) => seq)).toEqual(noted);
      expect(new Set(noted).size).toBe(noted.length);
    },
    2 * minutes,
  );

  it(
    'brings back what the broker acknowledged and lost',
    async () => {
      await deployment.audit.stop();
      const before = await messagesNow(deployment);
      const answered = await decideSome(deployment, 200);
      await loseMessages(deployment, before + answered.length);
      await deployment.audit.start();
      await expectLedgerHolds(deployment, answered);
    },
    2 * minutes,
  );

  it(
    'fills a database that was restored from an older backup, from the spool',
    async () => {
      const before = await decideSome(deployment, 100);
      await expectLedgerHolds(deployment, before);
      await deployment.audit.stop();
      const backup = await backUp(deployment);
      await deployment.audit.start();
      const after = await decideSome(deployment, 200);
      await expectLedgerHolds(deployment, after);
      await deployment.audit.stop();
      await restore(deployment, backup);
      await loseMessages(deployment, 0);
      await deployment.audit.start();
      await expectLedgerHolds(deployment, [...before, ...after]);
    },
    2 * minutes,
  );

  it(
    'bounds what a flood of bad requests writes',
    async () => {
      const gateway = deployment.gateway('acme', 16);
      const before = (await readRows(deployment.ledgerUrl, 'acme')).length;
      const startedMs = Date.now();
      const sent = 2_000;
      let next = 0;
      const flood = async (): Promise<void> => {
        while (next < sent) {
          next += 1;
          const { status, body } = await gateway.post('/decide', { nonsense: next });
          expect(status).toBe(400);
          expect(body).toMatchObject({ decision: 'deny', allow: false });
        }
      };
      await Promise.all(Array.from({ length: 16 }, () => flood()));
      const answered = await decideSome(deployment, 50);
      const seconds = Math.ceil((Date.now() - startedMs) / 1_000) + 2;
      await expectLedgerHolds(deployment, answered);
      const rows = (await readRows(deployment.ledgerUrl, 'acme')).slice(before);
      const refusals = rows.filter(({ kind }) => kind === 'refusals');
      expect(refusals.length).toBeGreaterThan(0);
      expect(refusals.length).toBeLessThanOrEqual(seconds);
    },
    2 * minutes,
  );

  it(
    'finds a payload, a search row and a header that somebody edited in the database, each by its own verdict',
    async () => {
      const url = deployment.ledgerUrl;
      await expectVerified(deployment, 'acme');
      const logId = await withClient(url, async (client) => {
        const { rows } = await client.query<{ id: number }>(`select id from edict.log where tenant = 'acme'`);
        return rows[0]?.id ?? -1;
      });
      const decided = (await readRows(url, 'acme')).filter(({ kind }) => kind === 'decision');
      const victim = decided[Math.floor(decided.length / 2)];
      if (victim === undefined) throw new Error('no decision to tamper with');
      const where = `log_id = ${logId} and seq = ${victim.seq}`;
      // An administrator of the server can switch the guards off; the verifier must still see it.
      await withClient(url, async (client) => {
        const { rows } = await client.query<{ decision: string }>(`select decision from edict.decision where ${where}`);
        const other = rows[0]?.decision === 'allow' ? 'deny' : 'allow';
        await client.query(`update edict.decision set decision = '${other}' where ${where}`);
      });
      const search = await verify(deployment, 'acme');
      expect(search.verdicts.projection).toMatchObject({ status: 'failed', firstBad: { seq: String(victim.seq) } });
      expect(search.verdicts.integrity.status).toBe('ok');

      await withClient(url, async (client) => {
        const { rows } = await client.query<{ child: string }>(
          `select tableoid::regclass::text as child from edict.payload where ${where}`,
        );
        const child = rows[0]?.child ?? '';
        await client.query(`alter table ${child} disable trigger all`);
        await client.query(
          `update ${child} set ciphertext = set_byte(ciphertext, 40, get_byte(ciphertext, 40) # 1) where ${where}`,
        );
        // `all` goes with plain `enable` only; the guards of the migrations are the kind that replicas obey too.
        await client.query(`alter table ${child} enable trigger all`);
        await client.query(`alter table ${child} enable always trigger append_only`);
      });
      const payload = await verify(deployment, 'acme');
      expect(payload.verdicts.integrity).toMatchObject({ status: 'failed', firstBad: { seq: String(victim.seq) } });
    },
    2 * minutes,
  );
});

describe('emitters that do not come back, with a broker and a database server', () => {
  let deployment: ExternalDeployment;
  beforeAll(async () => {
    deployment = await startExternal({
      tenants: ['acme'],
      // Segments go as soon as they are covered, so that a restored database can ask for what nobody has any more.
      settings: { spool: { segment: '64KiB', keep: '0s' }, audit: { gap_grace: '2s' } },
    });
  }, 2 * minutes);
  afterAll(async () => {
    await deployment.close();
  }, minutes);

  it(
    'names what neither broker nor spool can bring back as lost, and goes on',
    async () => {
      await expectInLedger(deployment, await decideSome(deployment, 50));
      await deployment.audit.stop();
      const backup = await backUp(deployment);
      await deployment.audit.start();
      const between = await decideSome(deployment, 400);
      await expectInLedger(deployment, between);
      await until('the spool gave up what is covered', () => {
        const held = readdirSync(path.join(deployment.home, 'emitters', '0', 'spool'));
        return held.includes(`${'0'.repeat(20)}.seg`) ? undefined : true;
      });
      await deployment.audit.stop();
      await restore(deployment, backup);
      await loseMessages(deployment, 0);
      await deployment.audit.start();
      const after = await decideSome(deployment, 50);
      await expectInLedger(deployment, after);
      const lost = await until('a lost entry', async () => {
        const rows = await readRows(deployment.ledgerUrl, 'acme');
        return rows.some(({ kind }) => kind === 'lost') ? rows : undefined;
      });
      const ids = lost.map(({ eventId }) => eventId);
      expect(new Set(ids).size).toBe(ids.length);
      await expectComplete(deployment, 'acme');
      await expectVerified(deployment, 'acme');
    },
    2 * minutes,
  );

  it(
    'closes an emitter that never comes back by an entry',
    async () => {
      const answered = await decideSome(deployment, 50);
      await expectInLedger(deployment, answered);
      const emitter = answered.at(-1)?.emitter ?? '';
      await deployment.pdp.kill9();
      rmSync(path.join(deployment.home, 'emitters'), { recursive: true });
      await deployment.pdp.start();
      const [fresh] = await decideSome(deployment, 10);
      expect(fresh?.emitter).not.toBe(emitter);
      const retired = await deployment.run(
        'audit',
        'emitter',
        'retire',
        emitter,
        '--key-file',
        deployment.operatorKeyFile,
      );
      expect(retired).toMatchObject({ code: 0, stderr: '' });
      await until('a retire entry', async () => {
        const rows = await readRows(deployment.ledgerUrl, 'edict');
        return rows.some(({ kind, emitter: zeros }) => kind === 'emitter' && /^0+$/.test(zeros)) ? true : undefined;
      });
      for (const tenant of ['edict', 'acme']) await expectVerified(deployment, tenant);
    },
    2 * minutes,
  );
});

import { startEmbedded, startExternal, type Deployment, type ExternalDeployment } from '../support/deployment.ts';
import { expectLedgerHolds } from './support/ledger.ts';
import { startLoad } from './support/load.ts';
import { expectRowsOnce } from './support/rows.ts';

const minutes = 60_000;

/** `kill -9` in the middle of load; the load goes on through the outage and after it. */
async function drill(
  deployment: Deployment,
  options: {
    readonly kill: () => Promise<unknown>;
    readonly restart: () => Promise<unknown>;
    /** Whether decisions are still answered while the victim is down. */
    readonly decidesMeanwhile: boolean;
  },
): Promise<void> {
  // Slow enough that an outage of a minute leaves no mountain of events to look through.
  const load = startLoad(deployment, { connections: 2, pauseMs: 15 });
  await load.untilAnswered(300);
  await options.kill();
  if (options.decidesMeanwhile) await load.untilAnswered(200);
  await options.restart();
  await load.untilAnswered(300);
  const answered = await load.stop();
  expect(answered.length).toBeGreaterThanOrEqual(options.decidesMeanwhile ? 800 : 600);
  // Every refusal would be counted, but nothing of what is killed here may make the decision point refuse.
  expect(Object.keys(load.statuses()).filter((status) => status !== '200' && status !== 'none')).toEqual([]);
  await expectLedgerHolds(deployment, answered);
}

describe('kill -9 in the middle of load, with a broker and a database server', () => {
  let deployment: ExternalDeployment;
  beforeAll(async () => {
    deployment = await startExternal();
  }, 2 * minutes);
  afterEach(async () => {
    for (const tenant of ['edict', ...deployment.tenants]) await expectRowsOnce(deployment.ledgerUrl, tenant);
  });
  afterAll(async () => {
    await deployment.close();
  }, minutes);

  it(
    'of the decision point: every answered decision is in the ledger once',
    async () => {
      const { pdp } = deployment;
      await drill(deployment, { kill: () => pdp.kill9(), restart: () => pdp.start(), decidesMeanwhile: false });
    },
    2 * minutes,
  );

  it(
    'of the audit service: every answered decision is in the ledger once',
    async () => {
      const { audit } = deployment;
      await drill(deployment, { kill: () => audit.kill9(), restart: () => audit.start(), decidesMeanwhile: true });
    },
    2 * minutes,
  );

  it(
    'of the broker: every answered decision is in the ledger once',
    async () => {
      const { kafka } = deployment;
      await drill(deployment, { kill: () => kafka.kill(), restart: () => kafka.restart(), decidesMeanwhile: true });
    },
    2 * minutes,
  );

  it(
    'of the database server: every answered decision is in the ledger once',
    async () => {
      const { postgres } = deployment;
      await drill(deployment, {
        kill: () => postgres.kill(),
        restart: () => postgres.restart(),
        decidesMeanwhile: true,
      });
    },
    2 * minutes,
  );
});

describe('kill -9 in the middle of load, on one machine with the embedded database', () => {
  let deployment: Deployment;
  beforeAll(async () => {
    deployment = await startEmbedded();
  }, 2 * minutes);
  afterAll(async () => {
    await deployment.close();
  }, minutes);

  it(
    'of the decision point: every answered decision is in the ledger once',
    async () => {
      const { pdp } = deployment;
      await drill(deployment, { kill: () => pdp.kill9(), restart: () => pdp.start(), decidesMeanwhile: false });
    },
    2 * minutes,
  );

  it(
    'of the audit service with its database: every answered decision is in the ledger once',
    async () => {
      const { audit } = deployment;
      await drill(deployment, { kill: () => audit.kill9(), restart: () => audit.start(), decidesMeanwhile: true });
    },
    2 * minutes,
  );
});

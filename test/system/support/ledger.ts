import type { JsonClient } from '../../../scripts/replay/client.ts';
import {
  differences,
  failuresOf,
  readStreams,
  runVerification,
  waitForDecisions,
  type LedgerStream,
} from '../../../scripts/replay/ledger.ts';
import type { AnsweredDecision } from '../../../scripts/replay/send.ts';
import type { VerificationReport } from '../../../services/audit/core/verify-report.ts';
import type { Deployment } from '../../support/deployment.ts';
import { until } from './until.ts';

const arrivalLimitMs = 90_000;

const byTenant = (deployment: Deployment, answered: readonly AnsweredDecision[]) =>
  deployment.tenants.map((tenant) => ({ tenant, answered: answered.filter((answer) => answer.tenant === tenant) }));

/** The audit service may just be starting again: asks until it answers. */
async function withAuditor<T>(deployment: Deployment, tenant: string, work: (auditor: JsonClient) => Promise<T>) {
  const auditor = deployment.auditor(tenant);
  try {
    await until(`the ledger of ${tenant} answers`, async () =>
      (await auditor.get('/v1/emitters')).status === 200 ? true : undefined,
    );
    return await work(auditor);
  } finally {
    auditor.close();
  }
}

/** The report of the tenant's newest log. */
export async function verify(deployment: Deployment, tenant: string): Promise<VerificationReport> {
  const [report] = await withAuditor(deployment, tenant, runVerification);
  if (report === undefined) throw new Error(`${tenant} has no log`);
  return report;
}

/** No verdict on any log of the tenant has failed. */
export async function expectVerified(deployment: Deployment, tenant: string): Promise<void> {
  const reports = await withAuditor(deployment, tenant, runVerification);
  expect(reports.length).toBeGreaterThan(0);
  expect(reports.flatMap(failuresOf)).toEqual([]);
  for (const { verdicts } of reports) {
    expect(verdicts.integrity.status).toBe('ok');
    expect(verdicts.projection.status).toBe('ok');
  }
}

/** Every answered decision stands in its tenant's ledger exactly once, as it was answered, in its emitter's order. */
export async function expectInLedger(
  deployment: Deployment,
  answered: readonly AnsweredDecision[],
  options: { readonly nothingElse?: boolean } = {},
): Promise<void> {
  for (const { tenant, answered: expected } of byTenant(deployment, answered)) {
    const content = await withAuditor(deployment, tenant, async (auditor) =>
      waitForDecisions(auditor, expected, arrivalLimitMs),
    );
    expect({ tenant, problems: differences(content.decisions, expected) }).toEqual({ tenant, problems: [] });
    if (options.nothingElse === true) expect(content.decisions).toHaveLength(expected.length);
    // A payload that cannot be opened would still be counted by the search table.
    expect(content.decisions.filter(({ payload }) => payload !== 'opened')).toEqual([]);
  }
}

const isIncomplete = ({ highest, complete_to: completeTo, holes }: LedgerStream): boolean =>
  highest !== completeTo || holes.length > 0;

/** Every number of every stream is an entry, or is named by a lost or retire entry. */
export async function expectComplete(deployment: Deployment, tenant: string): Promise<void> {
  await withAuditor(deployment, tenant, async (auditor) => {
    await until(
      `every stream of ${tenant} is complete`,
      async () => {
        const incomplete = (await readStreams(auditor)).filter(isIncomplete);
        if (incomplete.length > 0) throw new Error(JSON.stringify(incomplete));
        return true;
      },
      { limitMs: arrivalLimitMs },
    );
  });
}

/** As `expectInLedger`; and every stream is complete, and the ledgers of all tenants verify. */
export async function expectLedgerHolds(
  deployment: Deployment,
  answered: readonly AnsweredDecision[],
  options: { readonly nothingElse?: boolean } = {},
): Promise<void> {
  await expectInLedger(deployment, answered, options);
  for (const tenant of ['edict', ...deployment.tenants]) {
    await expectComplete(deployment, tenant);
    await expectVerified(deployment, tenant);
  }
}

import type { RequestHandler, Response } from 'express';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { RetainedTenant, Retention } from '../core/retention.ts';
import { auditorOf, sendProblem } from './access.ts';

const shown = ({ periodDays }: Retention, tenants: readonly RetainedTenant[]) => ({
  period_days: periodDays,
  tenants: tenants.map(({ tenant, logs, waitsFor }) => ({ tenant, logs, waits_for: waitsFor })),
});

/** Payloads of every tenant go by one setting, so only the operators of the installation ask for it. */
const isOperator = (response: Response): boolean => {
  if (auditorOf(response).tenant === SYSTEM_TENANT) return true;
  sendProblem(response, 403, 'forbidden', `retention is for operators of the tenant ${SYSTEM_TENANT}`);
  return false;
};

/** `GET` and `POST /v1/retention`: how far it is, and the next step. */
export const retentionHandlers = (retention: Retention) => {
  const read: RequestHandler = async (_request, response) => {
    if (isOperator(response)) response.json(shown(retention, await retention.state()));
  };
  const begin: RequestHandler = async (_request, response) => {
    if (isOperator(response)) response.json(shown(retention, await retention.begin(auditorOf(response).caller)));
  };
  return { read, begin };
};

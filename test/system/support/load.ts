import { setTimeout as sleep } from 'node:timers/promises';
import { outcomeOf, type AnsweredDecision } from '../../../scripts/replay/send.ts';
import type { Deployment } from '../../support/deployment.ts';

/** Requests of the demo bundle: the first is allowed, the others are denied by the agent's leg and by the purpose. */
export const REQUESTS = [
  request('hr-assistant', 'headcount-report'),
  request('analytics-agent', 'headcount-report'),
  request('hr-assistant', 'quarterly-report'),
] as const;

function request(agent: string, purpose: string) {
  return {
    subject: { type: 'user', id: 'alice' },
    agent: { type: 'agent', id: agent },
    action: { name: 'read' },
    resource: { type: 'dataset', id: 'hr.salaries' },
    context: { purpose, supported_obligations: ['redact', 'rate_limit'] },
  };
}

/** Load that goes on until it is stopped, whatever happens to the services meanwhile. */
export interface Load {
  /** The decisions that were answered so far. */
  answered(): readonly AnsweredDecision[];
  /** How many answers had each status; requests without any answer are counted as `none`. */
  statuses(): Readonly<Record<string, number>>;
  /** Waits until `more` further decisions were answered. */
  untilAnswered(more: number): Promise<void>;
  /** Lets the requests in flight end. */
  stop(): Promise<readonly AnsweredDecision[]>;
}

export interface LoadOptions {
  /** Requests at once for each tenant. */
  readonly connections?: number;
  /** A pause after each answer, for load that is to last and not to fill disks. */
  readonly pauseMs?: number;
  readonly requests?: readonly unknown[];
}

const waitLimitMs = 60_000;

/** Asks for all tenants of the deployment at once; a request that gets no answer is simply another request later. */
export function startLoad(deployment: Deployment, options: LoadOptions = {}): Load {
  const connections = options.connections ?? 4;
  const requests = options.requests ?? REQUESTS;
  const answered: AnsweredDecision[] = [];
  const statuses: Record<string, number> = {};
  let stopping = false;

  const work = async (tenant: string, first: number): Promise<void> => {
    const gateway = deployment.gateway(tenant, 1);
    for (let turn = first; !stopping; turn += 1) {
      try {
        const outcome = outcomeOf(tenant, await gateway.post('/decide', requests[turn % requests.length]));
        statuses[outcome.status] = (statuses[outcome.status] ?? 0) + 1;
        if (outcome.kind === 'decision') answered.push(outcome.answer);
        else await sleep(10);
      } catch {
        statuses['none'] = (statuses['none'] ?? 0) + 1;
        await sleep(10);
      }
      if (options.pauseMs !== undefined) await sleep(options.pauseMs);
    }
  };
  const workers = Promise.all(
    deployment.tenants.flatMap((tenant) => Array.from({ length: connections }, (_, index) => work(tenant, index))),
  );
  return {
    answered: () => answered,
    statuses: () => statuses,
    async untilAnswered(more) {
      const wanted = answered.length + more;
      const deadline = Date.now() + waitLimitMs;
      while (answered.length < wanted) {
        if (Date.now() > deadline)
          throw new Error(`${answered.length} of ${wanted} decisions answered; statuses ${JSON.stringify(statuses)}`);
        await sleep(5);
      }
    },
    async stop() {
      stopping = true;
      await workers;
      return answered;
    },
  };
}

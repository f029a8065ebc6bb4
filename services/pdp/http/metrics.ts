import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { Counter, Histogram, registerGauges, type Registry } from '../../shared/runtime/metrics.ts';

export interface HttpMetrics {
  decided(tenant: string, allow: boolean, seconds: number): void;
  fault(code: string): void;
  refused(code: string, status: number): void;
}

const LATENCY_BUCKETS_S = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];

/** `inFlight` is asked when somebody reads the metrics. */
export const createHttpMetrics = (registry: Registry, inFlight: () => number): HttpMetrics => {
  const registers = [registry];
  const decisions = new Counter({
    name: 'edict_decisions_total',
    help: 'Decisions, each with an event.',
    labelNames: ['tenant', 'decision'],
    registers,
  });
  const faults = new Counter({
    name: 'edict_decision_faults_total',
    help: 'Decisions that are a deny because the policy or this program could not answer.',
    labelNames: ['code'],
    registers,
  });
  const refusals = new Counter({
    name: 'edict_refusals_total',
    help: 'Requests and batch items that were turned away before the policy saw them, or whose event failed.',
    labelNames: ['code', 'status'],
    registers,
  });
  const latency = new Histogram({
    name: 'edict_decision_duration_seconds',
    help: 'From the head of a request to its answer.',
    buckets: LATENCY_BUCKETS_S,
    registers,
  });
  registerGauges(registry, {
    edict_requests_in_flight: { help: 'Requests that were let in and are not answered yet.', read: inFlight },
  });
  // Hashing labels costs more than counting, so the children are kept; tenants come from settings, so they are few.
  const children = new Map<string, Counter.Internal>();
  return {
    decided(tenant, allow, seconds) {
      const key = allow ? `+${tenant}` : `-${tenant}`;
      let child = children.get(key);
      if (child === undefined) {
        child = decisions.labels(tenant, allow ? 'allow' : 'deny');
        children.set(key, child);
      }
      child.inc();
      latency.observe(seconds);
    },
    fault: (code) => faults.inc({ code }),
    refused: (code, status) => refusals.inc({ code, status }),
  };
};

/** The metrics without the lines of other tenants; operators of the system tenant see all. */
export const metricsFor = (text: string, tenant: string): string =>
  tenant === SYSTEM_TENANT
    ? text
    : text
        .split('\n')
        .filter((line) => {
          const named = /^[a-z_]+\{(?:[^}]*,)?tenant="([^"]*)"/.exec(line)?.[1];
          return named === undefined || named === tenant;
        })
        .join('\n');

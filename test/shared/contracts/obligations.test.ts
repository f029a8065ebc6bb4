import { obligationProblem } from '../../../services/shared/contracts/obligations.ts';

describe('the catalogue of obligations', () => {
  it.each<[string, Record<string, unknown> | undefined]>([
    ['redact', { columns: ['iban'] }],
    ['redact', { paths: ['/a/b'], entities: ['email'] }],
    ['mask', { columns: ['iban'], method: 'partial' }],
    ['require_approval', { approvers: ['manager'], count: 2 }],
    ['step_up', { acr_values: ['phr'], max_age_s: 0 }],
    ['notify', { channel: 'security' }],
    ['log', undefined],
    ['rate_limit', { leg: 'chain/0', calls_per_minute: 10 }],
    ['route', { target: 'replica' }],
    ['set_args', { args: { limit: 10 } }],
    ['credential', { name: 'readonly', scopes: ['read'], ttl_s: 60 }],
    ['watermark', {}],
    ['session_termination', { reason: 'exfiltration' }],
  ])('takes %s with %j', (type, properties) => {
    expect(obligationProblem({ id: 'o', type, ...(properties === undefined ? {} : { properties }) })).toBeUndefined();
  });

  it.each<[string, Record<string, unknown>]>([
    ['teleport', {}],
    ['constructor', {}],
    ['__proto__', {}],
    ['redact', {}],
    ['redact', { columns: [] }],
    ['redact', { columns: 'iban' }],
    ['redact', { colums: ['iban'] }],
    ['mask', { columns: ['x'], method: 'rot13' }],
    ['rate_limit', { calls_per_minute: 0 }],
    ['rate_limit', { calls_per_minute: '10' }],
    ['rate_limit', { leg: 'subject', calls_per_minute: 1.5 }],
    ['route', {}],
    ['set_args', { args: [] }],
  ])('refuses %s with %j', (type, properties) => {
    expect(obligationProblem({ id: 'o', type, properties })).toContain(type);
  });
});

import fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { AppError } from '../../../services/shared/contracts/errors.ts';
import type { DecisionRequest } from '../../../services/shared/contracts/decision.ts';
import type { DecisionData } from '../../../services/shared/contracts/events.ts';
import { PolicyInput, type PolicyOutput } from '../../../services/shared/contracts/policy-io.ts';
import { createDecide, type DecidingPolicy, type DecideRequest } from '../../../services/pdp/core/decide.ts';
import type { EvaluationResult } from '../../../services/pdp/core/evaluate.ts';
import type { FreshnessState } from '../../../services/pdp/core/freshness.ts';
import { compileMask, type MaskKey } from '../../../services/pdp/core/mask.ts';
import type { EventDraft, RecordEvent } from '../../../services/pdp/core/record.ts';

const NOW = Date.UTC(2026, 0, 1, 0, 0, 0, 123);
const ID = '019b7000-0000-7000-8000-000000000000';
const KEY: MaskKey = { key: Buffer.alloc(32, 1), id: 'abcdef01' };

const REQUEST: DecisionRequest = {
  subject: { type: 'user', id: 'alice' },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'hr.salaries' },
};
const AGENT = { type: 'agent', id: 'bot', chain: [{ type: 'agent', id: 'planner' }] };
const ALLOW: PolicyOutput = {
  version: 1,
  allow: true,
  reasons: [{ code: 'permitted' }],
  obligations: [],
  advice: [],
  legs: { subject: true },
};
const DENY: PolicyOutput = {
  ...ALLOW,
  allow: false,
  reasons: [{ code: 'no', leg: 'subject' }],
  legs: { subject: false },
};

const run = (
  answer: PolicyOutput | EvaluationResult,
  overrides: Partial<DecideRequest> & {
    readonly mask?: readonly string[];
    readonly record?: RecordEvent;
    readonly freshness?: FreshnessState;
    readonly charged?: (readonly [string, number])[];
  } = {},
) => {
  const { mask, record, freshness, charged, ...ask } = overrides;
  const inputs: string[] = [];
  const drafts: EventDraft[] = [];
  const keep: RecordEvent = (draft) => {
    drafts.push(draft);
    return { emitter: 'e', boot: '1', sequence: '1', durable: Promise.resolve('spool') };
  };
  const policy: DecidingPolicy = {
    evaluate: (input) => {
      inputs.push(Buffer.from(input).toString());
      return 'outcome' in answer
        ? answer
        : { outcome: 'answer', value: answer, fuelUsed: 1, fuelLimit: 1_000, drawn: undefined };
    },
    engine: 'fake/1',
    entrypoint: 'edict/decide',
    bundles: [{ name: 'mesh', digest: `sha256:${'0'.repeat(64)}`, serial: 1 }],
    setDigest: `sha256:${'1'.repeat(64)}`,
    ...(freshness === undefined ? {} : { freshness: () => freshness }),
  };
  const decide = createDecide({
    record: (draft) => (record ?? keep)(draft),
    chargeFuel: (tenant, { fuelUsed }) => charged?.push([tenant, fuelUsed]),
    nowMs: () => NOW,
    monotonicMs: () => 2.5,
    newId: () => ID,
    mask: mask === undefined ? undefined : compileMask(mask),
    maskKey: () => KEY,
    durability: 'spool',
  });
  const decided = decide({
    request: REQUEST,
    caller: {
      id: 'gw-1',
      tenant: 'acme',
      requires_agent: false,
      believe_unverified: false,
      properties: { zone: 'eu' },
    },
    policy,
    startedMs: 1,
    ...ask,
  });
  const answered = JSON.parse(`{${decided.answerMembers}}`) as DecisionData['answer'];
  const events = drafts.map(({ members }) => JSON.parse(`{${members}}`) as DecisionData);
  return { decided, answer: answered, events, drafts, inputs };
};
const last = <T>(list: readonly T[]): T => {
  const value = list.at(-1);
  if (value === undefined) throw new Error('empty');
  return value;
};

describe('decide', () => {
  it('says to the caller which bound a policy broke', () => {
    const said = (code: 'policy_fuel' | 'policy_memory' | 'policy_error') =>
      run({ outcome: 'fault', code, message: 'm', fuelUsed: 1, fuelLimit: 1 }).decided.reasons[0]?.message;
    expect(said('policy_fuel')).toContain('pdp.fuel');
    expect(said('policy_memory')).toContain('pdp.policy_memory');
    expect(said('policy_error')).toBe('The policy gave no answer that can be used.');
  });

  it('charges the tenant for what was evaluated, also when it cannot be recorded', () => {
    const charged: (readonly [string, number])[] = [];
    run(ALLOW, { charged });
    run({ outcome: 'fault', code: 'policy_fuel', message: 'm', fuelUsed: 77, fuelLimit: 77 }, { charged });
    const full = () => {
      throw new AppError('spool_full', 'no room');
    };
    expect(() => run(ALLOW, { charged, record: full })).toThrow('no room');
    expect(charged).toEqual([
      ['acme', 1],
      ['acme', 77],
      ['acme', 1],
    ]);
  });

  it('gives the policy exactly the published input, serialised once, and records that text', () => {
    const { inputs, events, drafts } = run(
      { ...ALLOW, legs: { subject: true, agent: true, 'chain/0': true } },
      { request: { ...REQUEST, agent: AGENT, context: { purpose: 'p', session_tokens: [] } } },
    );
    const input = JSON.parse(last(inputs)) as unknown;
    expect(Compile(PolicyInput).Check(input)).toBe(true);
    expect(input).toEqual({
      version: 1,
      tenant: 'acme',
      caller: { id: 'gw-1', properties: { zone: 'eu', believe_unverified: false } },
      subject: { type: 'user', id: 'alice', properties: {}, verified: false },
      agent: {
        type: 'agent',
        id: 'bot',
        properties: {},
        verified: false,
        chain: [{ type: 'agent', id: 'planner', properties: {}, verified: false }],
      },
      action: { name: 'read', properties: {} },
      resource: { type: 'dataset', id: 'hr.salaries', properties: {} },
      context: { purpose: 'p' },
      session: { labels: [], step: 0 },
      time: { rfc3339: '2026-01-01T00:00:00.123Z', ns: 1767225600123000000 },
    });
    expect(last(inputs)).toContain('"ns":1767225600123000000');
    expect(last(drafts).members).toContain(`"input":${last(inputs)}`);
    expect(last(events).evaluation).toEqual({
      engine: 'fake/1',
      entrypoint: 'edict/decide',
      time_ns: '1767225600123000000',
      seed: null,
      fuel_limit: 1_000,
      fuel_used: 1,
      memo: false,
      nondeterministic: {},
      replayable: true,
    });
  });

  it('answers an allow and records the same answer', () => {
    const { decided, answer, events, drafts } = run(
      { ...ALLOW, expires_in_s: 5, obligations: [{ id: 'o1', type: 'redact', properties: { columns: ['iban'] } }] },
      { requestId: 'r-1', traceparent: '00-a-b-01' },
    );
    expect(answer).toEqual({
      decision_id: ID,
      decision: 'allow',
      allow: true,
      reasons: [{ code: 'permitted' }],
      obligations: [{ id: 'o1', type: 'redact', properties: { columns: ['iban'] } }],
      advice: [],
      policy: { bundles: [{ name: 'mesh', digest: `sha256:${'0'.repeat(64)}`, serial: 1 }] },
      expires_at: '2026-01-01T00:00:05.123Z',
    });
    expect(decided).toMatchObject({ decisionId: ID, allow: true, fault: undefined });
    expect(last(drafts)).toMatchObject({ id: ID, type: 'edict.decision.v1', tenant: 'acme', timeMs: NOW });
    expect(last(events)).toMatchObject({
      caller: { id: 'gw-1' },
      request_id: 'r-1',
      tokens: [],
      answer,
      policy: { set: `sha256:${'1'.repeat(64)}` },
      durability: 'spool',
      duration_us: 1500,
      trace: { traceparent: '00-a-b-01' },
    });
    expect(last(events)).not.toHaveProperty('fault');
  });

  it('states verified where the caller is believed', () => {
    const { inputs } = run(ALLOW, {
      caller: {
        id: 'c',
        tenant: 't',
        requires_agent: false,
        believe_unverified: true,
        properties: { believe_unverified: 'lie' },
      },
    });
    expect(JSON.parse(last(inputs))).toMatchObject({
      subject: { verified: true },
      caller: { properties: { believe_unverified: true } },
    });
  });

  it.each<[string, Partial<PolicyOutput>, Partial<DecisionRequest>, readonly string[]]>([
    ['an unknown obligation', { obligations: [{ id: 'o', type: 'teleport' }] }, {}, ['obligation_unknown']],
    ['malformed properties', { obligations: [{ id: 'o', type: 'redact' }] }, {}, ['obligation_unknown']],
    [
      'an obligation that the caller does not support',
      {
        obligations: [
          { id: 'o', type: 'log' },
          { id: 'p', type: 'log', properties: { level: 'x' } },
        ],
      },
      { context: { supported_obligations: ['redact'] } },
      ['obligation_unsupported'],
    ],
    ['a data revision that was not reached', {}, { at_least: { data_revision: 0 } }, ['policy_stale']],
    [
      'several of them',
      {
        obligations: [
          { id: 'o', type: 'teleport' },
          { id: 'p', type: 'log' },
        ],
      },
      { context: { supported_obligations: [] }, at_least: { data_revision: 17 } },
      ['policy_stale', 'obligation_unknown', 'obligation_unsupported'],
    ],
  ])('turns an allow into a deny for %s', (_name, output, request, codes) => {
    const { answer, decided } = run({ ...ALLOW, expires_in_s: 60, ...output }, { request: { ...REQUEST, ...request } });
    expect(answer).toMatchObject({ decision: 'deny', allow: false, obligations: [], advice: [] });
    expect(answer.reasons.map(({ code }) => code)).toEqual(codes);
    expect(answer).not.toHaveProperty('expires_at');
    expect(decided.fault).toBeUndefined();
  });

  it('keeps an allow whose obligations the caller supports', () => {
    const { answer } = run(
      { ...ALLOW, obligations: [{ id: 'o', type: 'log' }] },
      { request: { ...REQUEST, context: { supported_obligations: ['log'] } } },
    );
    expect(answer.allow).toBe(true);
  });

  it('asks nothing of the caller about advice', () => {
    const { answer } = run({ ...ALLOW, advice: [{ id: 'a', type: 'teleport' }] });
    expect(answer.allow).toBe(true);
    expect(answer.advice).toEqual([{ id: 'a', type: 'teleport', properties: {} }]);
  });

  it('adds policy_stale to a deny', () => {
    const { answer } = run(DENY, { request: { ...REQUEST, at_least: { data_revision: 1 } } });
    expect(answer.reasons.map(({ code }) => code)).toEqual(['no', 'policy_stale']);
  });

  it('turns an allow of a stale policy into a deny, or says that it is stale, as the settings ask', () => {
    const stale = { state: 'stale', message: 'too old' } as const;
    const output = { ...ALLOW, expires_in_s: 60 };
    const denied = run(output, { freshness: { ...stale, denies: true } });
    expect(denied.answer).toMatchObject({ allow: false, reasons: [{ code: 'policy_stale', message: 'too old' }] });
    expect(denied.decided.fault).toBeUndefined();
    const flagged = run(output, { freshness: { ...stale, denies: false } });
    expect(flagged.answer.allow).toBe(true);
    expect(flagged.answer.reasons.map(({ code }) => code)).toEqual(['permitted', 'policy_stale']);
    for (const { answer } of [denied, flagged]) expect(answer).not.toHaveProperty('expires_at');
    const both = run(DENY, { freshness: { ...stale, denies: true } });
    expect(both.answer.reasons.map(({ code }) => code)).toEqual(['no', 'policy_stale']);
    const fault = { outcome: 'fault', code: 'policy_error', message: 'm', fuelUsed: 1, fuelLimit: 1 } as const;
    expect(run(fault, { freshness: { ...stale, denies: false } }).decided.fault).toBe('policy_error');
  });

  it('lets no answer be reused for longer than its policy is fresh', () => {
    const until = (untilMs: number | undefined) =>
      run({ ...ALLOW, expires_in_s: 60 }, { freshness: { state: 'fresh', untilMs } });
    expect(until(NOW + 5_000).answer.expires_at).toBe(new Date(NOW + 5_000).toISOString());
    expect(until(NOW + 90_000).answer.expires_at).toBe(new Date(NOW + 60_000).toISOString());
    expect(until(undefined).answer.expires_at).toBe(new Date(NOW + 60_000).toISOString());
    expect(run(ALLOW, { freshness: { state: 'fresh', untilMs: NOW + 5_000 } }).answer).not.toHaveProperty('expires_at');
  });

  it.each<[string, PolicyOutput | EvaluationResult, string]>([
    [
      'an evaluation fault',
      { outcome: 'fault', code: 'policy_memory', message: 'm', fuelUsed: 1, fuelLimit: 1_000 },
      'policy_memory',
    ],
    ['an allow without a leg', { ...ALLOW, legs: {} }, 'legs_incomplete'],
    ['a reason of ours', { ...DENY, reasons: [{ code: 'policy_stale' }] }, 'policy_output_invalid'],
    [
      'an allow with a leg that is not permitted',
      { ...ALLOW, legs: { subject: true, agent: false } },
      'legs_inconsistent',
    ],
    ['session labels', { ...ALLOW, session: { labels: ['tainted'] } }, 'session_unsupported'],
  ])('denies as a fault, with an event, for %s', (_name, output, code) => {
    const { decided, answer, events } = run(output);
    expect(decided.fault).toBe(code);
    expect(answer).toMatchObject({ decision_id: ID, decision: 'deny', allow: false, obligations: [] });
    expect(answer.reasons).toMatchObject([{ code }]);
    expect(events).toHaveLength(1);
    expect(last(events)).toMatchObject({ fault: code, answer: { decision: 'deny' } });
  });

  it('denies as a fault when the evaluator throws against its promise', () => {
    const policy = {
      evaluate: () => {
        throw new Error('boom alice');
      },
      engine: 'fake/1',
      entrypoint: 'edict/decide',
      bundles: [],
      setDigest: 'sha256:',
    };
    const { decided, events } = run(ALLOW, { policy });
    expect(decided).toMatchObject({ allow: false, fault: 'internal' });
    expect(decided.faultMessage).not.toContain('alice');
    expect(events).toHaveLength(1);
  });

  it('allows only when every leg of the request is permitted, whatever else the policy says', () => {
    const legs = fc.dictionary(fc.constantFrom('subject', 'agent', 'chain/0', 'chain/1'), fc.boolean());
    fc.assert(
      fc.property(legs, fc.nat({ max: 2 }), (given, hops) => {
        const agent = {
          type: 'agent',
          id: 'a',
          chain: Array.from({ length: hops }, () => ({ type: 'agent', id: 'h' })),
        };
        const { decided } = run({ ...ALLOW, legs: given }, { request: { ...REQUEST, agent } });
        const needed = ['subject', 'agent', ...agent.chain.map((_hop, index) => `chain/${index}`)];
        const permitted = needed.every((leg) => given[leg] === true) && !Object.values(given).includes(false);
        expect(decided.allow).toBe(permitted);
        expect(decided.fault === undefined).toBe(permitted);
      }),
    );
  });

  it('records hostile member names and texts as they came', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), fc.string({ unit: 'grapheme' }), (json, text) => {
        const properties = JSON.parse(`{"__proto__":${json},"constructor":1}`) as Record<string, unknown>;
        const { events, inputs } = run(ALLOW, {
          request: { ...REQUEST, subject: { type: 'user', id: `x${text}`, properties } },
        });
        const { input } = JSON.parse(JSON.stringify(last(events))) as { input: PolicyInput };
        expect(JSON.stringify(input)).toBe(JSON.stringify(JSON.parse(last(inputs))));
        expect(Object.keys(input.subject.properties)).toContain('__proto__');
      }),
    );
  });

  it('masks the event, not the answer, and says that it cannot be evaluated again', () => {
    const { answer, events, inputs } = run(
      { ...DENY, reasons: [{ code: 'no', message: 'alice may not' }] },
      { mask: ['/input/subject/id', '/reasons/*/message'] },
    );
    expect(answer.reasons).toEqual([{ code: 'no', message: 'alice may not' }]);
    expect(last(inputs)).toContain('alice');
    expect(JSON.stringify(last(events))).not.toContain('alice');
    expect(last(events)).toMatchObject({
      input: { subject: { id: { masked: expect.stringMatching(/^[0-9a-f]{64}$/) as string, key: 'abcdef01' } } },
      evaluation: { replayable: false },
    });
  });

  it('records a deny in place of an event that is too large', () => {
    const drafts: EventDraft[] = [];
    const record: RecordEvent = (draft) => {
      drafts.push(draft);
      if (drafts.length === 1) throw new AppError('event_too_large', 'too large');
      return { emitter: 'e', boot: '1', sequence: '1', durable: Promise.resolve('spool') };
    };
    const { decided, answer } = run(ALLOW, { record });
    expect(decided).toMatchObject({ allow: false, fault: 'event_too_large' });
    expect(answer.reasons).toMatchObject([{ code: 'event_too_large' }]);
    const [first, second] = drafts.map(({ members }) => JSON.parse(`{${members}}`) as DecisionData);
    expect(drafts.map(({ id }) => id)).toEqual([ID, ID]);
    expect(second).toMatchObject({
      fault: 'event_too_large',
      answer: { decision: 'deny', allow: false },
      evaluation: { replayable: false },
      input: { omitted: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
      output: { bytes: Buffer.byteLength(JSON.stringify(first?.answer)) },
    });
  });

  it.each(['spool_full', 'spool_failed'] as const)(
    'passes %s on: nothing was recorded, nothing is answered',
    (code) => {
      const record: RecordEvent = () => {
        throw new AppError(code, 'no');
      };
      expect(() => run(ALLOW, { record })).toThrow(expect.objectContaining({ code }));
    },
  );
});

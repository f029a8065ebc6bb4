import { judgeReplay, readRecorded, type RecordedDecision } from '../../../services/pdp/policy/replay.ts';
import type { EvaluationResult } from '../../../services/pdp/core/evaluate.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;
const ID = '019b7000-0000-7000-8000-000000000000';
const REASONS = [{ code: 'no', leg: 'subject' }];

const INPUT = {
  version: 1,
  tenant: 'acme',
  caller: { id: 'gw', properties: {} },
  subject: { type: 'user', id: 'alice', properties: {}, verified: false },
  action: { name: 'read', properties: {} },
  resource: { type: 'dataset', id: 'hr.salaries', properties: {} },
  context: { supported_obligations: ['redact'] },
  session: { labels: [], step: 0 },
  time: { rfc3339: '2026-01-01T00:00:00.000Z', ns: 1_767_225_600_000_000_000 },
};

const event = (
  change: {
    readonly data?: object;
    readonly answer?: object;
    readonly evaluation?: object;
    readonly policy?: object;
  } = {},
): unknown => ({
  id: ID,
  type: 'edict.decision.v1',
  data: {
    input: INPUT,
    answer: { decision: 'deny', reasons: REASONS, obligations: [], advice: [], ...change.answer },
    evaluation: {
      engine: 'edict-wasm/3',
      time_ns: '1767225600000000000',
      fuel_limit: 1_000,
      fuel_used: 10,
      nondeterministic: {},
      replayable: true,
      ...change.evaluation,
    },
    policy: { bundles: [{ name: 'mesh', digest: DIGEST, serial: 1 }], set: DIGEST, ...change.policy },
    ...change.data,
  },
});

const recorded = (change?: Parameters<typeof event>[0]): RecordedDecision => {
  const found = readRecorded(event(change));
  if (typeof found === 'string') throw new Error(found);
  return found;
};

const gives = (allow: boolean, change: object = {}, fuelUsed = 10): EvaluationResult => ({
  outcome: 'answer',
  value: {
    version: 1,
    allow,
    reasons: allow ? [] : REASONS,
    obligations: [],
    advice: [],
    legs: { subject: allow },
    ...change,
  },
  fuelUsed,
  fuelLimit: 1_000,
  drawn: undefined,
});

describe('a recorded decision', () => {
  it('is read with all that it takes to make it again', () => {
    const data = { revision: 7, digest: DIGEST };
    expect(recorded({ policy: { data } })).toMatchObject({
      id: ID,
      timeMs: 1_767_225_600_000,
      fuelLimit: 1_000,
      fuelUsed: 10,
      data,
      answer: { decision: 'deny', reasons: REASONS, fault: undefined },
    });
    expect(recorded({ evaluation: { fuel_used: null } }).fuelUsed).toBeUndefined();
  });

  it.each([
    ['no object', null],
    ['another event', { ...(event() as object), type: 'edict.start.v1' }],
    ['no data', { id: ID, type: 'edict.decision.v1' }],
    ['a masked input', event({ evaluation: { replayable: false } })],
    ['an omitted input', event({ data: { input: { omitted: 'ab', bytes: 1 } } })],
    ['a fault of the decision point', event({ data: { fault: 'policy_memory' } })],
    ['a time that is none', event({ evaluation: { time_ns: '12' } })],
    ['a time beyond all', event({ evaluation: { time_ns: `${'9'.repeat(22)}000000` } })],
    ['draws that are none', event({ evaluation: { nondeterministic: { 'rand.intn': { x: 1 } } } })],
    ['no bundles', event({ policy: { bundles: [] } })],
    ['a bundle without a digest', event({ policy: { bundles: [{ name: 'a', digest: 'x', serial: 1 }] } })],
    ['data without a digest', event({ policy: { data: { revision: 1 } } })],
  ])('is not made again from %s', (_what, found) => {
    expect(typeof readRecorded(found)).toBe('string');
  });
});

describe('a decision that is made again', () => {
  it('is the same with the same answer, and tells what both cost', () => {
    expect(judgeReplay(recorded(), gives(false, {}, 11))).toMatchObject({
      verdict: 'same',
      differences: [],
      fuel: { recorded: 10, now: 11 },
    });
    const remembered = recorded({ evaluation: { fuel_used: null } });
    expect(judgeReplay(remembered, gives(false))).toMatchObject({ verdict: 'same', fuel: { recorded: null, now: 10 } });
  });

  it('names what is not as it was', () => {
    expect(judgeReplay(recorded(), gives(true))).toMatchObject({
      verdict: 'changed',
      differences: ['decision', 'reasons'],
      recorded: { decision: 'deny' },
      now: { decision: 'allow' },
    });
    const advice = [{ id: 'a', type: 'log' }];
    expect(judgeReplay(recorded(), gives(false, { advice })).differences).toEqual(['advice']);
  });

  it('is judged by the rules of the decision point, too', () => {
    const duty = gives(true, { obligations: [{ id: 'n', type: 'notify', properties: { channel: 'x' } }] });
    expect(judgeReplay(recorded(), duty).now).toMatchObject({ decision: 'deny' });
    expect(judgeReplay(recorded(), gives(true, { legs: {} })).now).toMatchObject({ fault: 'legs_incomplete' });
  });

  it('is the same with the same fault, whatever the words to it', () => {
    const fault: EvaluationResult = {
      outcome: 'fault',
      code: 'policy_fuel',
      message: 'x',
      fuelUsed: 5,
      fuelLimit: 5,
    };
    const before = { data: { fault: 'policy_fuel' }, answer: { reasons: [{ code: 'policy_fuel', message: 'other' }] } };
    expect(judgeReplay(recorded(before), fault)).toMatchObject({ verdict: 'same' });
    expect(judgeReplay(recorded(), fault).differences).toEqual(['reasons', 'fault']);
  });

  it('takes what is masked for anything, and nothing else', () => {
    const mask = { masked: 'ab', key: 'k' };
    const masked = recorded({ answer: { reasons: [{ code: 'no', leg: mask }] } });
    expect(judgeReplay(masked, gives(false))).toMatchObject({ verdict: 'same' });
    expect(judgeReplay(masked, gives(false, { reasons: [{ code: 'other', leg: 'subject' }] })).differences).toEqual([
      'reasons',
    ]);
    expect(judgeReplay(masked, gives(false, { reasons: [] })).differences).toEqual(['reasons']);
    const advice = [{ id: 'r', type: 'redact', properties: { field: mask } }];
    const advised = recorded({ answer: { advice } });
    expect(judgeReplay(advised, gives(false)).differences).toEqual(['advice']);
    const now = { advice: [{ id: 'r', type: 'redact', properties: { field: '/a' } }] };
    expect(judgeReplay(advised, gives(false, now))).toMatchObject({ verdict: 'same' });
    const more = { advice: [{ id: 'r', type: 'redact', properties: { field: '/a', with: 'x' } }] };
    expect(judgeReplay(advised, gives(false, more)).differences).toEqual(['advice']);
  });

  it('says where the age of policy or data left nothing of the answer to compare', () => {
    const stale = { code: 'policy_stale', message: 'expired' };
    const turned = recorded({ answer: { reasons: [stale] } });
    expect(judgeReplay(turned, gives(true))).toMatchObject({ verdict: 'aged', differences: [] });
    expect(judgeReplay(turned, gives(false)).differences).toEqual(['reasons']);
    const noted = recorded({ answer: { reasons: [...REASONS, stale] } });
    expect(judgeReplay(noted, gives(false))).toMatchObject({ verdict: 'same' });
    expect(judgeReplay(noted, gives(true))).toMatchObject({
      verdict: 'changed',
      differences: ['decision', 'reasons'],
    });
    const own = gives(false, { reasons: [stale] });
    expect(judgeReplay(recorded(), own).now).toMatchObject({ fault: 'policy_output_invalid' });
  });
});

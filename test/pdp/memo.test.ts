import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { createWasmEvaluator } from '../../services/pdp/policy/wasm-evaluator.ts';
import { makeBundle } from './policy/make-bundles.ts';
import { createPushing, type Pushing } from './pushing.ts';

const HEAD = 'package edict\n\n# METADATA\n# entrypoint: true\n';
const LEGS = '"obligations": obligations, "advice": [], "legs": {"subject": allow}';
/** Reads who asks, the resource's type, a member of the context, and data; says which bundle speaks. */
const regoOf = (
  code: string,
): string => `${HEAD}decide := {"version": 1, "allow": allow, "reasons": [{"code": "${code}"}], ${LEGS}}

default allow := false

allow if data.users[input.subject.id].grade >= data.mesh.least

default obligations := []

obligations := [{"id": "o", "type": "step_up", "properties": {"max_age_s": 60}}] if input.context.strict == true
`;
const DRAWING = `${HEAD}decide := {"version": 1, "allow": true, "reasons": [{"code": "drawn", "message": uuid.rfc4122("a")}], "obligations": [], "advice": [], "legs": {"subject": true}}`;
const TIMED = `${HEAD}decide := {"version": 1, "allow": input.time.ns > 0, "reasons": [], "obligations": [], "advice": [], "legs": {"subject": true}}`;
const FAULTY = `${HEAD}decide := {"version": 1, "allow": true, "reasons": [], "obligations": [], "advice": [], "legs": {"subject": true}} if input.subject.id != "nobody"`;

interface Evaluation {
  readonly memo: boolean;
  readonly fuel_used: number | null;
  readonly fuel_limit: number | null;
  readonly time_ns: string;
}
interface Decision {
  readonly input: unknown;
  readonly evaluation: Evaluation;
  readonly answer: { readonly allow: boolean; readonly reasons: unknown; readonly obligations: unknown };
}

describe('remembered answers, with a whole decision point', () => {
  let pushing: Pushing;
  beforeEach(() => {
    pushing = createPushing();
  });
  afterEach(() => pushing.remove());

  const ON = ', memo: {enabled: true}';
  const put = (rego: string, serial = 1): Promise<Uint8Array> => {
    const bundle = makeBundle({ rego, data: { mesh: { least: 2 } }, serial });
    return bundle.then((bytes) => {
      writeFileSync(pushing.bundleFile, bytes);
      return bytes;
    });
  };
  /** Decisions in order; stops the decision point. */
  const decisions = async (tenant = 'acme'): Promise<readonly Decision[]> => {
    await pushing.stop();
    return pushing
      .events()
      .filter(({ type, data }) => type === 'edict.decision.v1' && data.tenant === tenant)
      .map(({ data }) => data as unknown as Decision);
  };
  const memos = (events: readonly Decision[]) => events.map(({ evaluation }) => evaluation.memo);

  it('tells operators what answers are remembered by, or why they are not', async () => {
    const memoIn = async (url: string): Promise<unknown> => {
      const headers = { authorization: `Bearer ${pushing.keys.operator.key}` };
      const body = (await (await fetch(`${url}/v1/bundles`, { headers })).json()) as {
        readonly sets: readonly { readonly active?: { readonly memo: unknown } }[];
      };
      await pushing.stop();
      return body.sets[0]?.active?.memo;
    };
    await put(regoOf('first'));
    expect(await memoIn(await pushing.start(ON))).toEqual({ reads: ['/context/strict', '/subject/id'] });
    expect(await memoIn(await pushing.start())).toEqual({ never: 'pdp.memo.enabled is false' });
    await put(DRAWING, 2);
    expect(await memoIn(await pushing.start(ON))).toEqual({ never: 'bundle test asks for uuid.rfc4122' });
    await put(TIMED, 3);
    expect(await memoIn(await pushing.start(ON))).toEqual({ reads: ['/time/ns'] });
  });

  it('answers what it answered, says so in the event, and a new evaluation of the event gives the same', async () => {
    const bytes = await put(regoOf('first'));
    const url = await pushing.start(ON);
    const first = await pushing.decide(url, 'bob');
    const second = await pushing.decide(url, 'bob', { resource: { type: 'z', id: 'other' }, context: { junk: 1 } });
    const { decision_id: _one, audit: _first, ...said } = first.body as Record<string, unknown>;
    const { decision_id: _two, audit: _second, ...again } = second.body as Record<string, unknown>;
    expect(again).toEqual(said);
    await pushing.decide(url, 'bob', { context: { strict: true } });
    await pushing.decide(url, 'carol');
    const events = await decisions();
    expect(memos(events)).toEqual([false, true, false, false]);
    expect(events[1]?.evaluation).toMatchObject({ fuel_used: null, fuel_limit: null });
    expect(events[0]?.evaluation.fuel_used).toBeGreaterThan(0);
    expect(events[1]?.input).toMatchObject({ resource: { id: 'other' }, context: { junk: 1 } });

    const { wasm, dataJson } = await readBundle(bytes);
    const { evaluate } = await createWasmEvaluator({ wasm, dataJson });
    for (const { input, evaluation, answer } of events) {
      const result = evaluate(JSON.stringify(input), Number(BigInt(evaluation.time_ns) / 1_000_000n));
      const { allow, reasons } = answer;
      expect(result).toMatchObject({ outcome: 'answer', value: { allow, reasons } });
    }
  });

  it('checks obligations and at_least anew', async () => {
    await put(regoOf('first'));
    const url = await pushing.start(ON);
    const pushed = await pushing.send(url, 'PUT', '/v1/data/users/bob', { grade: 2 });
    const ask = (more: object) => pushing.decide(url, 'bob', more);
    const strict = { context: { strict: true } };
    expect((await ask(strict)).body.allow).toBe(true);
    const unable = await ask({ context: { strict: true, supported_obligations: [] } });
    expect(unable.body).toMatchObject({ allow: false, reasons: [{ code: 'obligation_unsupported' }] });
    const revision = (pushed.body.data?.revision ?? 0) + 1;
    const late = await ask({ ...strict, at_least: { data_revision: revision } });
    expect(late.body).toMatchObject({ allow: false, reasons: [{ code: 'policy_stale' }] });
    expect((await ask(strict)).body.allow).toBe(true);
    expect(memos(await decisions())).toEqual([false, true, true, true]);
  });

  it('forgets with each change of the data or the bundles, and keeps tenants apart', async () => {
    await put(regoOf('first'));
    const url = await pushing.start(ON);
    const grade = (value: number) => pushing.send(url, 'PUT', '/v1/data/users/bob', { grade: value });
    const allowed = async () => (await pushing.decide(url, 'bob')).body.allow;
    expect([await allowed(), await allowed()]).toEqual([false, false]);
    await grade(2);
    expect([await allowed(), await allowed()]).toEqual([true, true]);
    await grade(1);
    expect([await allowed(), await allowed()]).toEqual([false, false]);
    const other = await pushing.decide(url, 'bob', {}, pushing.keys.other.key);
    expect(other.body.allow).toBe(false);
    await put(regoOf('second'), 2);
    const speaker = async () => (await pushing.decide(url, 'carol')).body.reasons?.[0]?.code;
    while ((await speaker()) !== 'second') await sleep(20);
    expect((await pushing.decide(url, 'bob')).body.reasons).toEqual([{ code: 'second' }]);
    const events = await decisions();
    expect(memos(events).slice(0, 6)).toEqual([false, true, false, true, false, true]);
    expect(memos(await decisions('globex'))).toEqual([false]);
    const second = events.filter(({ answer }) => JSON.stringify(answer.reasons).includes('second'));
    expect(memos(second)).toEqual([false, false]);
  });

  it('evaluates each request where the policy draws, where the time is read, and for each fault', async () => {
    await put(DRAWING);
    let url = await pushing.start(ON);
    const drawn = [await pushing.decide(url, 'bob'), await pushing.decide(url, 'bob')].map(({ body }) => body.reasons);
    expect(drawn[0]).not.toEqual(drawn[1]);
    expect(memos(await decisions())).toEqual([false, false]);
    await put(TIMED, 2);
    url = await pushing.start(ON);
    for (let n = 0; n < 2; n += 1) {
      expect((await pushing.decide(url, 'bob')).body.allow).toBe(true);
      await sleep(3);
    }
    expect(memos((await decisions()).slice(-2))).toEqual([false, false]);
    await put(FAULTY, 3);
    url = await pushing.start(ON);
    for (let n = 0; n < 2; n += 1) expect((await pushing.decide(url, 'nobody')).status).toBe(500);
    expect((await pushing.decide(url, 'bob')).body.allow).toBe(true);
    expect((await pushing.decide(url, 'bob')).body.allow).toBe(true);
    expect(memos((await decisions()).slice(-4))).toEqual([false, false, false, true]);
  });

  it('is off unless the settings say otherwise', async () => {
    await put(regoOf('first'));
    const url = await pushing.start();
    await pushing.decide(url, 'bob');
    await pushing.decide(url, 'bob');
    expect(memos(await decisions())).toEqual([false, false]);
  });

  it('answers the same requests of a batch once', async () => {
    await put(regoOf('first'));
    const url = await pushing.start(ON);
    const item = { subject: { type: 'user', id: 'bob' }, action: { name: 'read' }, resource: { type: 'x', id: 'y' } };
    const requests = [item, { ...item, resource: { type: 'x', id: 'z' } }, { ...item, context: { strict: true } }];
    const key = pushing.keys.gateway.key;
    const batch = await pushing.send(url, 'POST', '/decide/batch', { requests }, { key });
    expect(batch.body.responses).toHaveLength(3);
    expect(memos(await decisions())).toEqual([false, true, false]);
  });
});

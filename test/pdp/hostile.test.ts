import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { collidingKeys } from '../../scripts/bench/flood-keys.ts';
import { makeBundle } from './policy/make-bundles.ts';
import { createPushing, type Answer, type Pushing } from './pushing.ts';

/** Does what `context.do` says; allows alice where that is nothing, and what comes to an end is a reason. */
const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": allow, "reasons": [{"code": "c", "message": message}], "obligations": [], "advice": [], "legs": {"subject": allow}}

default allow := false

allow if input.subject.id == "alice"

allow := 1 if input.context.do == "conflict"

default message := ""

message := crypto.sha256(data.large) if input.context.do == "hash"

message := replace(data.large, "a", "bb") if input.context.do == "replace"

message := sprintf("%s %s", [data.large, data.large]) if input.context.do == "sprintf"

message := base64.encode(data.large) if input.context.do == "base64"

message := concat(",", regex.find_n(\`(\\w+)+x\`, data.large, -1)) if input.context.do == "regex"

message := format_int(count(json.unmarshal(input.context.text)), 10) if input.context.do == "unmarshal"

message := yaml.marshal(json.unmarshal(input.context.text)) if input.context.do == "yaml"

message := format_int(count([x | walk(data.deep, [x, _])]), 10) if input.context.do == "walk"

message := sprintf("%d", [data.digits + 1]) if input.context.do == "digits"

message := format_int(count({key | some key, _ in input.context.members}), 10) if input.context.do == "keys"
`;
const ALICE = { type: 'user', id: 'alice' };
const DIGITS = '7'.repeat(400);
/** 10 MB that cannot be packed to next to nothing: such a bundle is refused. */
const LARGE = createHash('shake256', { outputLength: 5 * 1024 * 1024 })
  .update('hostile')
  .digest('hex');

const dataText = (): string => {
  const deep = `${'['.repeat(500)}${']'.repeat(500)}`;
  return `{"large": ${JSON.stringify(LARGE)}, "deep": ${deep}, "digits": ${DIGITS}}`;
};

describe('a decision point', () => {
  it('answers rightly after 10,000 faults in a row, and counted them', async () => {
    const pushing = createPushing();
    try {
      writeFileSync(pushing.bundleFile, await makeBundle({ rego: REGO }));
      const url = await pushing.start(', fuel_per_second: 1000000000000');
      const context = { do: 'conflict' };
      const defaults = { subject: ALICE, action: { name: 'read' }, resource: { type: 'x', id: 'y' }, context };
      const batch = { defaults, requests: Array.from({ length: 1_000 }, () => ({})) };
      for (let i = 0; i < 10; i += 1) {
        const { body } = await pushing.send(url, 'POST', '/decide/batch', batch, { key: pushing.keys.gateway.key });
        const codes = new Set(body.responses?.map(({ reasons, allow }) => `${allow} ${reasons?.[0]?.code}`));
        expect([body.responses?.length, ...codes]).toEqual([1_000, 'false policy_error']);
      }
      expect(await pushing.decide(url, 'alice', { context })).toMatchObject({ status: 500, body: { allow: false } });
      expect(await pushing.decide(url, 'alice')).toMatchObject({ status: 200, body: { allow: true } });
      expect(await pushing.decide(url, 'bob')).toMatchObject({ status: 200, body: { allow: false } });
      const headers = { authorization: `Bearer ${pushing.keys.operator.key}` };
      const metrics = await (await fetch(`${url}/metrics`, { headers })).text();
      expect(metrics).toMatch(/^edict_decision_faults_total\{.*policy_error.*\} 10001$/m);
      expect(metrics).toMatch(/^edict_decisions_total\{.*deny.*\} 10002$/m);
    } finally {
      await pushing.remove();
    }
  }, 120_000);
});

describe('a decision point under hostile input', () => {
  let pushing: Pushing;
  let url: string;
  beforeAll(async () => {
    pushing = createPushing();
    const bundle = await makeBundle({ rego: REGO, dataText: dataText(), roots: ['edict', 'large', 'deep', 'digits'] });
    writeFileSync(pushing.bundleFile, bundle);
    url = await pushing.start(', policy_memory: 256MiB, fuel_per_second: 1000000000000');
  }, 120_000);
  afterAll(() => pushing.remove());

  const doing = (what: string, more: object = {}): Promise<Answer> =>
    pushing.decide(url, 'bob', { context: { do: what, ...more } });
  const raw = (body: string | Uint8Array): Promise<Response> =>
    fetch(`${url}/decide`, {
      method: 'POST',
      headers: { authorization: `Bearer ${pushing.keys.gateway.key}`, 'content-type': 'application/json' },
      body,
    });
  const saidBy = ({ status, body }: Answer): string => `${status} ${body.code ?? body.reasons?.[0]?.message}`;
  const expectSound = async (): Promise<void> => {
    expect(await pushing.decide(url, 'alice')).toMatchObject({ status: 200, body: { allow: true } });
    expect(await pushing.decide(url, 'bob')).toMatchObject({ status: 200, body: { allow: false } });
  };
  const request = (context: string): string =>
    `{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"x","id":"y"},"context":${context}}`;

  it('ends for 5,000 keys of one bucket', async () => {
    const members = Object.fromEntries(collidingKeys(5_000).map((key) => [key, 1]));
    expect(['200 5000', '500 policy_fuel']).toContain(saidBy(await doing('keys', { members })));
    await expectSound();
  }, 60_000);

  it.each(['hash', 'replace', 'sprintf', 'base64', 'regex'])('ends for a text of 10 MB in %s', async (what) => {
    expect(['500 policy_fuel', '500 policy_memory', '500 policy_error']).toContain(saidBy(await doing(what)));
    await expectSound();
  });

  it('counts with numbers of 400 digits in data, and takes none in a request', async () => {
    expect(saidBy(await doing('digits'))).toBe(`200 ${BigInt(DIGITS) + 1n}`);
    const response = await raw(request(`{"n": ${DIGITS}}`));
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ allow: false, errors: [{ code: 'number_too_large' }] });
    await expectSound();
  });

  it.each<[string, string | Uint8Array, string]>([
    ['a lone surrogate', request('{"text": "\\ud800"}'), 'lone_surrogate'],
    ['a name that is one', request('{"\\udfff": 1}'), 'lone_surrogate'],
    ['invalid UTF-8', Buffer.from(request('{"text": "\u00ff"}'), 'latin1'), 'not_utf8'],
    ['an overlong form', Buffer.from(request('{"text": "\u00c0\u0080"}'), 'latin1'), 'not_utf8'],
    ['objects 1,000 deep', request('{"a":'.repeat(1_000) + '1' + '}'.repeat(1_000)), 'too_deep'],
    ['lists 100,000 deep', request(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), 'too_deep'],
    ['lists that do not end', request('['.repeat(100_000)), 'not_json'],
  ])('refuses %s', async (_what, body, code) => {
    const response = await raw(body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ decision: 'deny', allow: false, errors: [{ code }] });
    await expectSound();
  });

  it.each([
    ['unmarshal', 100_000],
    ['yaml', 100_000],
    ['yaml', 2_000],
  ])('ends for texts that %s reads as lists %i deep', async (what, depth) => {
    const text = '['.repeat(depth) + ']'.repeat(depth);
    expect(saidBy(await doing(what, { text }))).toMatch(/^(200 |500 policy_(error|fuel|memory)$)/);
    await expectSound();
  });

  it('walks data 500 deep, and comes to its end', async () => {
    expect(saidBy(await doing('walk'))).toMatch(/^(200 500|500 policy_fuel)$/);
    await expectSound();
  });

  it('is ready after all of it', async () => {
    const ready = await fetch(`${url}/health/ready`);
    expect(ready.status).toBe(200);
  });
});

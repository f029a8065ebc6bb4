import fc from 'fast-check';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { packageFolder } from '../../../../services/cli/opa-binary.ts';
import { readPointers, readsText, type InputReads } from '../../../../services/pdp/core/input-reads.ts';
import { readBundle } from '../../../../services/pdp/policy/bundle-reader.ts';
import { BUILTINS } from '../../../../services/pdp/policy/engine/builtins.ts';
import { createEngine, type Engine } from '../../../../services/pdp/policy/engine/host.ts';
import { findInputReads } from '../../../../services/pdp/policy/engine/input-reads.ts';
import { makeBundle } from '../make-bundles.ts';

const compiled = async (body: string, data: object = {}) => {
  const rego = `package edict\n\n# METADATA\n# entrypoint: true\n${body}\n`;
  return await readBundle(await makeBundle({ rego, data }));
};

/** A section of a module: `at` is where its number stands. */
const sectionsOf = (
  wasm: Uint8Array,
): readonly { readonly id: number; readonly at: number; readonly end: number }[] => {
  const sections = [];
  for (let at = 8; at < wasm.length;) {
    let [next, length, shift] = [at + 1, 0, 0];
    for (; ; shift += 7) {
      const byte = wasm[next]!;
      next += 1;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    sections.push({ id: wasm[at]!, at, end: next + length });
    at = next + length;
  }
  return sections;
};

/** Policies, and what they read. */
const CASES: readonly (readonly [name: string, rego: string, reads: readonly string[], data?: object])[] = [
  ['members', 'decide := input.subject.id', ['/subject/id']],
  ['nothing', 'decide := data.base.k', [''], { base: { k: 1 } }],
  ['whether something is there', 'decide := 1 if {\n\t_ = input.a.b\n}', ['/a/b']],
  ['a negation', 'decide := 1 if not input.context.blocked', ['/context/blocked']],
  ['a part as it is', 'decide := {"all": input.subject, "id": input.subject.id}', ['/subject']],
  ['members of a local', 'decide := x.a + x.b if x := input.n', ['/n/a', '/n/b']],
  ['what a function is given', 'decide := f(input.s)\n\nf(p) := p.id if p.kind == "user"', ['/s/id', '/s/kind']],
  ['what a function is given of two', 'decide := [f(input.s), f(input.t)]\n\nf(p) := p.id', ['/s/id', '/t/id']],
  ['what a function gives back', 'decide := f(input).id\n\nf(x) := x.s', ['/s']],
  ['a rule of its own', 'decide := subject.id\n\nsubject := input.subject', ['/subject']],
  ['a key that varies', 'decide := input.of[input.which]', ['/of', '/which']],
  ['a key in data', 'decide := data.users[input.subject.id].grade', ['/subject/id'], { users: { a: { grade: 1 } } }],
  ['a place in a list', 'decide := input.list[0].id', ['/list']],
  ['an iteration', 'decide := {x | some x in input.roles}', ['/roles']],
  ['members of each', 'decide := {r.id | some r in input.roles}', ['/roles']],
  ['every', 'decide := 1 if {\n\tevery r in input.roles { r == input.a.b }\n}', ['/a/b', '/roles']],
  ['built-ins of the module', 'decide := count(input.a) + count(input.b.c)', ['/a', '/b/c']],
  ['built-ins of the host', 'decide := sprintf("%v", [input.a.b])', ['/a/b']],
  ['a comparison of parts', 'decide := 1 if input.a == input.b', ['/a', '/b']],
  ['the input whole', 'decide := input', ['']],
  ['the input in a built-in', 'decide := json.marshal(input)', ['']],
  ['a member whose name varies', 'decide := [k | some k, _ in input]', ['']],
  ['an input that was changed', 'decide := y if y := x with input.a as 1\n\nx := input.b', ['']],
  ['a comprehension', 'decide := {k: v | some k in ["p"]; v := data.m[k][input.c.d]}', ['/c/d'], { m: { p: {} } }],
  ['the time', 'decide := 1 if input.time.ns > 7', ['/time/ns']],
  ['a dispatch that varies', 'decide := data.edict.r[input.k]\n\nr.a := input.x\n\nr.b := input.y', ['']],
  ['a default', 'default decide := 0\n\ndecide := 1 if input.a.b == 2', ['/a/b']],
  // What shares a local counts for all of it: more may be said than is read, never less.
  ['else', 'decide := 1 if input.a == 1\n\nelse := 2 if input.b.c == 1', ['/a', '/b']],
  ['names beyond ASCII', 'decide := input["é/x"]["😀"]', ['/é~1x/😀']],
  ['a name that has no one form', 'decide := input.a["\ufffd"]', ['/a']],
  [
    'names deeper than is told apart',
    `decide := input.${Array.from({ length: 20 }, () => 'm').join('.')}`,
    ['/m'.repeat(16)],
  ],
];

describe('what a policy reads', () => {
  it.each(CASES.map(([name, rego, expected, data = {}]) => ({ name, rego, expected, data })))(
    'finds $name',
    async (each) => {
      const { rego, expected, data } = each;
      const { wasm } = await compiled(rego, data);
      expect(readPointers(await findInputReads(wasm))).toEqual(expected);
    },
  );

  it('takes the whole input for read where the module does not tell', async () => {
    const { wasm } = await compiled('decide := input.subject.id');
    expect(await findInputReads(Buffer.from('no module'))).toBe(true);
    const named = sectionsOf(wasm).filter(
      ({ id, at }) =>
        id === 0 &&
        Buffer.from(wasm)
          .subarray(at, at + 12)
          .includes('name'),
    );
    expect(named).toHaveLength(1);
    const [{ at, end }] = named as [(typeof named)[0]];
    const nameless = Buffer.concat([wasm.subarray(0, at), wasm.subarray(end)]);
    expect(await findInputReads(nameless)).toBe(true);
    // Two functions of that name: which of them is it?
    const doubled = Buffer.from(wasm);
    doubled.write('opa_value_get', doubled.indexOf('opa_json_dump', at), 'latin1');
    expect(await findInputReads(doubled)).toBe(true);
    for (let length = 0; length < at; length += 997) expect(await findInputReads(wasm.subarray(0, length))).toBe(true);
  });

  it('never says less of a module with a byte changed than of one that still works', async () => {
    const { wasm } = await compiled('decide := input.subject.id if input.a.b');
    const code = sectionsOf(wasm).find(({ id }) => id === 10)!;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: code.end - 600, max: code.end - 1 }), fc.nat(255), async (at, byte) => {
        const changed = Buffer.from(wasm);
        changed[at] = byte;
        // Whatever it says, it says it: no hang, no other error.
        expect(readPointers(await findInputReads(changed)).length).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});

const POLICY = `decide := {"allow": allow, "reasons": reasons, "grade": grade}

default allow := false

allow if {
	input.action.name in data.actions
	permitted(input.subject)
	not input.context.blocked.until
}

permitted(party) if data.users[party.id].grade >= input.resource.properties.level

permitted(party) if {
	some role in party.properties.roles
	role == input.resource.properties.owner
}

reasons contains sprintf("%s lacks %v", [input.subject.id, input.resource.properties.level]) if not permitted(input.subject)

reasons contains "odd" if input.subject == input.resource.owner

reasons contains "chain" if {
	some hop in input.agent.chain
	not permitted(hop)
}

default grade := 0

grade := data.users[input.subject.id].grade
`;
const DATA = { actions: ['read', 'write'], users: { alice: { grade: 3 }, bob: { grade: 1 } } };

const words = fc.constantFrom<unknown>('alice', 'bob', 'read', 'write', 'admin', '', 0, 1, 2, 3, null, true, false, []);
const NAMES = ['subject', 'action', 'resource', 'context', 'agent', 'chain', 'id', 'name', 'properties', 'roles'];
const MORE = ['level', 'owner', 'blocked', 'until', 'time', 'ns', 'junk'];
const value: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'medium' },
    words,
    fc.array(tie('value'), { maxLength: 2 }),
    fc.dictionary(fc.constantFrom(...NAMES, ...MORE), tie('value'), { maxKeys: 4 }),
  ),
})).value;
const party = fc.record({
  id: words,
  properties: fc.record({ roles: fc.array(words, { maxLength: 2 }), junk: value }),
});
const input = fc.record(
  {
    subject: fc.oneof(party, value),
    action: fc.oneof(fc.record({ name: words, junk: value }), value),
    resource: fc.oneof(fc.record({ properties: fc.record({ level: words, owner: words, junk: value }) }), value),
    context: fc.oneof(fc.record({ blocked: value }), value),
    agent: fc.oneof(fc.record({ chain: fc.array(party, { maxLength: 2 }) }), value),
    time: value,
    junk: value,
  },
  { requiredKeys: [] },
);

/** The input with nothing in it but what is read, in another order, and other things where nothing is read. */
const disguised = (reads: InputReads, from: unknown, junk: unknown): unknown => {
  if (reads === true || typeof from !== 'object' || from === null || Array.isArray(from)) return from;
  const members = from as Readonly<Record<string, unknown>>;
  const kept = [...reads]
    .filter(([name]) => Object.hasOwn(members, name))
    .map(([name, below]) => [name, disguised(below, members[name], junk)] as const);
  return Object.fromEntries([['other', junk], ...kept.reverse()]);
};

const textOf = (engine: Engine, document: unknown): string => {
  const entrypoint = engine.entrypoints.get('edict/decide') ?? -1;
  const result = engine.evaluate({ entrypoint, input: JSON.stringify(document), nowMs: 1_767_225_600_123 });
  return result.outcome === 'result' ? result.text : result.code;
};
const engineOf = async (wasm: Uint8Array, dataJson: Uint8Array): Promise<Engine> =>
  await createEngine({ wasm, dataJson, builtins: BUILTINS, memoryMaxBytes: 64 * 1024 * 1024, fuel: 5_000_000 });

/** Evaluates pairs of inputs that agree in what is read; gives the different answers that came out. */
const checkAnswers = async (
  engine: Engine,
  reads: InputReads,
  inputs: fc.Arbitrary<unknown>,
  numRuns: number,
): Promise<ReadonlySet<string>> => {
  const answers = new Set<string>();
  fc.assert(
    fc.property(inputs, value, (one, junk) => {
      const other = disguised(reads, one, junk);
      expect(readsText(reads, other)).toBe(readsText(reads, one));
      const answer = textOf(engine, one);
      answers.add(answer);
      expect(textOf(engine, other)).toBe(answer);
    }),
    { numRuns },
  );
  return answers;
};

describe('answers', () => {
  it('are the same for all inputs that are the same in what is read', async () => {
    const { wasm, dataJson } = await compiled(POLICY, DATA);
    const reads = await findInputReads(wasm);
    expect(readPointers(reads)).toEqual(['/action/name', '/agent', '/context/blocked/until', '/resource', '/subject']);
    const answers = await checkAnswers(await engineOf(wasm, dataJson), reads, input, 3_000);
    expect(answers.size).toBeGreaterThan(20);
  });

  it('are so with the demo bundle, whose answers depend on the time', async () => {
    const archive = await readFile(path.join(packageFolder(), 'bundles', 'mesh.tar.gz'));
    const { wasm, dataJson } = await readBundle(archive);
    const reads = await findInputReads(wasm);
    const pointers = readPointers(reads);
    expect(pointers).toContain('/time/ns');
    expect(pointers).not.toContain('');
    expect(pointers.filter((pointer) => /^\/(tenant|session|time\/rfc3339)/.test(pointer))).toEqual([]);
    const base = {
      version: 1,
      tenant: 'acme',
      caller: { id: 'gw', properties: { believe_unverified: false } },
      subject: { type: 'user', id: 'alice', properties: {}, verified: false },
      action: { name: 'read', properties: {} },
      resource: { type: 'dataset', id: 'hr.salaries', properties: {} },
      context: { purpose: 'headcount-report' },
      session: { labels: [], step: 0 },
      time: { rfc3339: '2026-01-01T00:00:00.123Z', ns: 1_767_225_600_123_000_000 },
    };
    const inputs = fc
      .record(
        {
          subject: fc.constantFrom('alice', 'bob', 'nobody').map((id) => ({ ...base.subject, id })),
          agent: fc.constantFrom(
            { type: 'agent', id: 'analytics-agent', properties: {}, verified: false, chain: [] },
            { type: 'agent', id: 'x', properties: {}, verified: true, chain: [base.subject] },
          ),
          context: fc.oneof(fc.constant(base.context), value),
          caller: value,
          junk: value,
        },
        { requiredKeys: [] },
      )
      .map((changes: object): unknown => ({ ...base, ...changes }));
    const answers = await checkAnswers(await engineOf(wasm, dataJson), reads, inputs, 300);
    expect(answers.size).toBeGreaterThan(3);
  });
});

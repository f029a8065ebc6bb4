import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { packageFolder } from '../../../services/cli/opa-binary.ts';
import type { EvaluationResult } from '../../../services/pdp/core/evaluate.ts';
import { readBundle, type Bundle } from '../../../services/pdp/policy/bundle-reader.ts';
import {
  createWasmEvaluator,
  type WasmEvaluator,
  type WasmEvaluatorOptions,
} from '../../../services/pdp/policy/wasm-evaluator.ts';
import type { AppError } from '../../../services/shared/contracts/errors.ts';
import { answering, inputFor, makeBundle } from './make-bundles.ts';

const VALID = '"version": 1, "reasons": [], "obligations": [], "advice": [], "legs": {}';
const rule = (body: string): string => `package edict\n\n# METADATA\n# entrypoint: true\n${body}\n`;

const NOW_MS = 1_767_225_600_000;

type Tested = Omit<WasmEvaluator, 'evaluate'> & { readonly evaluate: (input: Uint8Array | string) => EvaluationResult };

const create = async (options: WasmEvaluatorOptions): Promise<Tested> => {
  const evaluator = await createWasmEvaluator(options);
  return { ...evaluator, evaluate: (input) => evaluator.evaluate(input, NOW_MS) };
};
const evaluatorOf = async (rego: string, data?: object): Promise<Tested> => {
  const { wasm, dataJson } = await readBundle(await makeBundle(data === undefined ? { rego } : { rego, data }));
  return create({ wasm, dataJson });
};
const refusalOf = (rego: string): Promise<string> =>
  evaluatorOf(rego).then(
    () => 'was loaded',
    (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
  );
const faultOf = (result: EvaluationResult): string => (result.outcome === 'fault' ? result.code : 'no fault');

const asking = (id: string): string => JSON.stringify(inputFor(id));

/** A module of these sections (WebAssembly 1.0, 5.5). */
const moduleOf = (...sections: readonly (readonly number[])[]): Buffer =>
  Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flat()]);
/** One type: a function without parameters and results. */
const TYPE = [1, 4, 1, 0x60, 0, 0];

describe('the evaluator', () => {
  it('answers the demo scenario from text and from bytes alike', async () => {
    const { wasm, dataJson } = await readBundle(await readFile(path.join(packageFolder(), 'bundles', 'mesh.tar.gz')));
    const { evaluate, engine } = await create({ wasm, dataJson });
    const agent = { type: 'agent', id: 'analytics-agent', properties: {}, verified: false, chain: [] };
    const alone = JSON.stringify(inputFor());
    const delegated = JSON.stringify({ ...inputFor(), agent });
    expect(engine).toBe('edict-wasm/3');
    for (const form of [(text: string) => text, (text: string) => Buffer.from(text)]) {
      expect(evaluate(form(alone))).toMatchObject({
        outcome: 'answer',
        value: { allow: true, legs: { subject: true } },
      });
      expect(evaluate(form(delegated))).toMatchObject({
        outcome: 'answer',
        value: { allow: false, reasons: [{ code: 'agent_not_entitled', leg: 'agent' }], legs: { agent: false } },
      });
    }
  });

  it('reads a view into a larger buffer by its own bounds', async () => {
    const { evaluate } = await evaluatorOf(
      rule(`decide := {${VALID}, "allow": allow}\n\ndefault allow := false\n\nallow if input.subject.id == "alice"`),
    );
    const text = Buffer.from(asking('alice'));
    const large = Buffer.alloc(text.length + 100, '}');
    text.copy(large, 50);
    expect(evaluate(large.subarray(50, 50 + text.length))).toMatchObject({ value: { allow: true } });
    expect(evaluate(new Uint8Array(text))).toMatchObject({ value: { allow: true } });
  });

  it('takes falsy inputs as inputs', async () => {
    const { evaluate } = await evaluatorOf(
      rule(`decide := {${VALID}, "allow": defined}\n\ndefault defined := false\n\ndefined if {\n\t_ := input\n}`),
    );
    for (const text of ['null', 'false', '0', '""']) {
      expect(evaluate(text)).toMatchObject({ outcome: 'answer', value: { allow: true } });
    }
  });

  it('answers rightly after 10,000 aborted evaluations in a row', async () => {
    const { evaluate, instances } = await evaluatorOf(
      rule(
        `decide := {${VALID}, "allow": permitted}\n\ndefault permitted := false\n\n` +
          `permitted := true if input.subject.id in {"alice", "eve"}\n\npermitted := false if input.subject.id == "eve"`,
      ),
    );
    const before = instances();
    for (let i = 0; i < 10_000; i += 1) expect(faultOf(evaluate(asking('eve')))).toBe('policy_error');
    expect(evaluate(asking('alice'))).toMatchObject({ outcome: 'answer', value: { allow: true } });
    expect(evaluate(asking('bob'))).toMatchObject({ outcome: 'answer', value: { allow: false } });
    expect(instances() - before).toBe(10_000);
  });

  it('survives ill-formed text, of which its caller promised that there is none', async () => {
    const { evaluate } = await evaluatorOf(answering('fine'));
    for (const bytes of [
      Buffer.from([0x22, 0xff, 0x22]),
      Buffer.from('"\\ud800"'),
      Buffer.from('{"a":'),
      Buffer.alloc(0),
    ]) {
      evaluate(bytes);
      expect(evaluate(asking('alice'))).toMatchObject({ outcome: 'answer' });
    }
  });

  it('gives no answer where the rule has no value', async () => {
    const { evaluate } = await evaluatorOf(rule(`decide := {${VALID}, "allow": true} if input.subject.id != "nobody"`));
    expect(faultOf(evaluate(asking('nobody')))).toBe('policy_undefined');
    expect(evaluate(asking('alice'))).toMatchObject({ outcome: 'answer' });
  });

  it.each([
    ['a text', '"allow"'],
    ['true', 'true'],
    ['allow that is no boolean', `{${VALID}, "allow": "yes"}`],
    ['no allow', `{${VALID}}`],
    ['an unknown member', `{${VALID}, "allow": true, "note": "x"}`],
    ['another version', `{${VALID.replace('"version": 1', '"version": 2')}, "allow": true}`],
    ['a leg of another name', `{${VALID.replace('"legs": {}', '"legs": {"owner": true}')}, "allow": true}`],
    ['a reason without a code', `{${VALID.replace('"reasons": []', '"reasons": [{"rule": "R"}]')}, "allow": true}`],
    [
      'an obligation without an id',
      `{${VALID.replace('"obligations": []', '"obligations": [{"type": "log"}]')}, "allow": true}`,
    ],
    [
      'too many reasons',
      `{${VALID.replace('"reasons": []', '"reasons": [{"code": "c"} | some i in numbers.range(1, 257)]')}, "allow": true}`,
    ],
    ['an endless reuse', `{${VALID}, "allow": true, "expires_in_s": 86401}`],
  ])('calls an output of %s a fault', async (_what, output) => {
    const said = await refusalOf(rule(`decide := ${output}`));
    expect(said).toContain('policy_output_invalid');
  });

  it('calls obligations larger than 64 KiB a fault', async () => {
    const { evaluate } = await evaluatorOf(
      rule(
        `decide := {${VALID.replace('"obligations": []', '"obligations": [{"id": "o", "type": "log", "properties": {"text": input.context.text}}]')}, "allow": true} if input.context.text\n\n` +
          `decide := {${VALID}, "allow": false} if not input.context.text`,
      ),
    );
    const withText = (length: number): string =>
      JSON.stringify({ ...inputFor(), context: { text: 'x'.repeat(length) } });
    expect(evaluate(withText(60_000))).toMatchObject({ outcome: 'answer', value: { allow: true } });
    expect(faultOf(evaluate(withText(70_000)))).toBe('policy_output_invalid');
  });

  it('calls a result larger than it may be a fault, whatever it is made of', async () => {
    const decide = `{${VALID}, "allow": true, "reasons": [{"code": "c", "message": input.context.text}]}`;
    const { wasm, dataJson } = await readBundle(
      await makeBundle({
        rego: rule(
          `decide := ${decide.replace('"reasons": [], ', '')} if input.context.text\n\n` +
            `decide := {${VALID}, "allow": false} if not input.context.text`,
        ),
      }),
    );
    const { evaluate } = await create({ wasm, dataJson, resultMaxBytes: 1_024 });
    const withText = (length: number): string =>
      JSON.stringify({ ...inputFor(), context: { text: 'x'.repeat(length) } });
    expect(evaluate(withText(800))).toMatchObject({ outcome: 'answer', value: { allow: true } });
    expect(faultOf(evaluate(withText(1_100)))).toBe('policy_output_invalid');
    expect(evaluate(withText(800))).toMatchObject({ outcome: 'answer', value: { allow: true } });
  });

  it('runs out of its own memory, not of ours, and goes on', async () => {
    const { wasm, dataJson } = await readBundle(await makeBundle({ rego: answering('fine') }));
    const { evaluate } = await create({ wasm, dataJson, memoryMaxBytes: 4 * 1024 * 1024 });
    const large = JSON.stringify({ ...inputFor(), context: { list: Array.from({ length: 200_000 }, (_, i) => i) } });
    expect(faultOf(evaluate(large))).toBe('policy_memory');
    expect(evaluate(asking('alice'))).toMatchObject({ outcome: 'answer' });
  });

  it('ends a runaway within its budget, and answers the next request', async () => {
    const { evaluate } = await evaluatorOf(
      rule(
        `decide := {${VALID}, "allow": found}\n\ndefault found := false\n\n` +
          'found if {\n\tinput.subject.id == "mallory"\n\tsome a in numbers.range(1, 3000)\n' +
          '\tsome b in numbers.range(1, 3000)\n\ta * b == -1\n}',
      ),
    );
    const startedMs = performance.now();
    const result = evaluate(asking('mallory'));
    const tookMs = performance.now() - startedMs;
    expect(result).toMatchObject({ outcome: 'fault', code: 'policy_fuel' });
    // Milliseconds on an idle machine; whole the runaway would take many seconds.
    expect(tookMs).toBeLessThan(500);
    expect(evaluate(asking('alice'))).toMatchObject({ outcome: 'answer', value: { allow: false } });
  });

  it('takes the same steps for the same input, whatever came between', async () => {
    const { evaluate } = await evaluatorOf(rule(`decide := {${VALID}, "allow": count(input.context) == 0}`));
    const small = evaluate(asking('alice')).fuelUsed;
    const large = evaluate(
      JSON.stringify({ ...inputFor(), context: { list: Array.from({ length: 9_000 }, (_, i) => i) } }),
    );
    expect(large.fuelUsed).toBeGreaterThan(small * 5);
    expect(evaluate(asking('alice')).fuelUsed).toBe(small);
  });

  it('gives memory back that one large input took', async () => {
    const { evaluate, instances } = await evaluatorOf(answering('fine'));
    const before = instances();
    const text = 'x'.repeat(12_000_000);
    expect(evaluate(JSON.stringify({ ...inputFor(), context: { text } }))).toMatchObject({ outcome: 'answer' });
    expect(evaluate(asking('alice'))).toMatchObject({ outcome: 'answer' });
    expect(instances() - before).toBe(1);
  });
});

describe('a module', () => {
  describe('that needs built-ins nobody supplies', () => {
    // OPA formats what it puts into a bundle, and takes the entrypoint out of it.
    const NEEDY = `package edict

# http.send({}) is what a comment says
decide := {${VALID}, "allow": allow, "text": "http.send({})"}

default allow := false

allow if {
	count(_addresses) > 0
	_get(input.context.url).status_code == 200
}

_addresses contains address if some address in net.lookup_ip_addr(input.context.host)

_get(url) := http.send({
	"method": "get",
	"url": url,
	"raw": \`net.lookup_ip_addr()\`,
})
`;
    const refusedWith = async (change: (bundle: Bundle) => Partial<Bundle>): Promise<AppError> => {
      const bundle = await readBundle(await makeBundle({ rego: NEEDY, anyBuiltin: true }));
      return createWasmEvaluator({ ...bundle, ...change(bundle) }).then(
        () => {
          throw new Error('was loaded');
        },
        (error: AppError) => error,
      );
    };

    it('is refused with their names, the rules that use them, and the places in the sources', async () => {
      const { code, message, details } = await refusedWith(() => ({}));
      expect(code).toBe('bundle_invalid');
      expect(message).toBe(
        'policy.wasm needs built-ins that are not supplied: http.send in data.edict._get (in the bundle: edict/edict.rego:14:14), ' +
          'net.lookup_ip_addr in data.edict._addresses (in the bundle: edict/edict.rego:12:48)',
      );
      expect(details['missing']).toEqual([
        { builtin: 'http.send', rules: ['data.edict._get'], places: ['edict/edict.rego:14:14'] },
        { builtin: 'net.lookup_ip_addr', rules: ['data.edict._addresses'], places: ['edict/edict.rego:12:48'] },
      ]);
    });

    it('names no places without sources, nor in those of other packages', async () => {
      const missing = [
        { builtin: 'http.send', rules: ['data.edict._get'], places: [] },
        { builtin: 'net.lookup_ip_addr', rules: ['data.edict._addresses'], places: [] },
      ];
      expect((await refusedWith(() => ({ files: [] }))).details['missing']).toEqual(missing);
      const elsewhere = Buffer.from('package edictal\n\nx := http.send({})\ny := net.lookup_ip_addr("a")\n');
      const files = [{ path: 'other.rego', bytes: elsewhere }];
      expect((await refusedWith(() => ({ files }))).details['missing']).toEqual(missing);
    });

    it('names only them where the module has no names, or names that cannot be read', async () => {
      for (const cut of [(names: Buffer) => names.fill(0xff), (names: Buffer) => names.fill('x')]) {
        const error = await refusedWith(({ wasm }) => {
          const bytes = Buffer.from(wasm);
          // The part with the names of functions begins behind the section's own name and its number.
          const start = bytes.lastIndexOf('\u0004name') + 5;
          cut(bytes.subarray(start, start + 20));
          return { wasm: bytes };
        });
        expect(error.message).toBe('policy.wasm needs built-ins that are not supplied: http.send, net.lookup_ip_addr');
      }
    });
  });

  it('may use the built-ins that are supplied', async () => {
    const { evaluate, hostBuiltins } = await evaluatorOf(
      rule(`decide := {${VALID}, "allow": sprintf("%s", [input.subject.id]) == "alice"}`),
    );
    expect(hostBuiltins).toEqual(['sprintf']);
    expect(evaluate(asking('alice'))).toMatchObject({ value: { allow: true } });
  });

  it('reads the clock of its evaluation, and no other', async () => {
    const { wasm, dataJson } = await readBundle(
      await makeBundle({ rego: rule(`decide := {${VALID}, "allow": time.now_ns() == ${NOW_MS}000000}`) }),
    );
    const { evaluate } = await createWasmEvaluator({ wasm, dataJson });
    expect(evaluate(asking('alice'), NOW_MS)).toMatchObject({ value: { allow: true } });
    expect(evaluate(asking('alice'), NOW_MS + 1)).toMatchObject({ value: { allow: false } });
  });

  it('that fails the self-check is refused', async () => {
    expect(await refusalOf(rule(`decide := {${VALID}, "allow": true} if input.subject.id == "alice"`))).toContain(
      'policy_undefined',
    );
  });

  it.each([
    ['no bytes', Buffer.alloc(0)],
    ['garbage', Buffer.from('\0asm\u0001\0\0\0garbage')],
    ['an empty module', moduleOf()],
    ['a module that imports what it should not', moduleOf(TYPE, [2, 10, 1, 4, ...Buffer.from('evil'), 1, 0x66, 0, 0])],
    [
      'a module that declares 4 GiB',
      moduleOf([2, 17, 1, 3, ...Buffer.from('env'), 6, ...Buffer.from('memory'), 2, 0, 0x80, 0x80, 4]),
    ],
    ['a module with an unknown opcode', moduleOf(TYPE, [3, 2, 1, 0], [10, 5, 1, 3, 0, 0xff, 0x0b])],
    [
      'a module that loops in its start function',
      moduleOf(TYPE, [3, 2, 1, 0], [8, 1, 0], [10, 9, 1, 7, 0, 3, 0x40, 0x0c, 0, 0x0b, 0x0b]),
    ],
  ])('of %s is refused', async (_what, wasm) => {
    await expect(createWasmEvaluator({ wasm, dataJson: Buffer.from('{}') })).rejects.toMatchObject({
      code: 'bundle_invalid',
    });
  });

  it('that does not fit into its memory is refused', async () => {
    const { wasm } = await readBundle(await makeBundle({ rego: answering('fine') }));
    const data = JSON.stringify({ list: Array.from({ length: 200_000 }, (_, i) => i) });
    const loading = createWasmEvaluator({ wasm, dataJson: Buffer.from(data), memoryMaxBytes: 4 * 1024 * 1024 });
    await expect(loading).rejects.toMatchObject({ code: 'bundle_invalid' });
  });
});

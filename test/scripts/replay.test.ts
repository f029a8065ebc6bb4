import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { bundleWith, readDemoBundle, writeReplayBundles } from '../../scripts/replay/bundles.ts';
import { directoriesOf } from '../../scripts/replay/directory.ts';
import { generateRecording } from '../../scripts/replay/generate.ts';
import { differences } from '../../scripts/replay/ledger.ts';
import { isRecording, readRecording, sampleCalls } from '../../scripts/replay/recording.ts';
import { countsOf, countsTable, figuresOf } from '../../scripts/replay/report.ts';
import { sessionsOf } from '../../scripts/replay/requests.ts';
import { catalogueOf, cataloguesOf, resourceOf } from '../../scripts/replay/resources.ts';
import { outcomeOf } from '../../scripts/replay/send.ts';
import { readBundle } from '../../services/pdp/policy/bundle-reader.ts';
import { createWasmEvaluator } from '../../services/pdp/policy/wasm-evaluator.ts';

const recordedCall = {
  run: 7,
  suite: 'banking',
  pipeline: 'some-model',
  user_task_id: 'user_task_2',
  injection_task_id: 'injection_task_4',
  attack: 'direct',
  security: true,
  utility: false,
  call_index: 1,
  turn: 1,
  function: 'send_money',
  args: { recipient: 'DE00', amount: 1.5 },
  error: false,
  prov: { recipient: 'u', amount: 'm' },
  tainted: true,
  label: 'attack',
  prompt: 'Pay the bill',
};
const earlierCall = { ...recordedCall, call_index: 0, function: 'get_balance', args: {}, prov: {} };

const lines = (...values: readonly unknown[]) => gzipSync(values.map((value) => `${JSON.stringify(value)}\n`).join(''));

describe('a recording', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-recording-'));
    writeFileSync(path.join(folder, 'calls.ndjson.gz'), lines(earlierCall, recordedCall));
    writeFileSync(
      path.join(folder, 'tools.ndjson.gz'),
      lines({ suite: 'banking', name: 'send_money', no_side_effect_per_camel: false }),
    );
    writeFileSync(
      path.join(folder, 'tasks.ndjson.gz'),
      lines({ suite: 'banking', kind: 'user', task_id: 'user_task_2', ground_truth: [{ function: 'send_money' }] }),
    );
    const environment = { bank_account: { iban: 'DE11', transactions: [{ sender: 'me', recipient: 'DE00' }] } };
    writeFileSync(
      path.join(folder, 'environments.json.gz'),
      gzipSync(JSON.stringify({ banking: { environment, injection_vectors: {} } })),
    );
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('becomes requests that hold nothing of labels, outcomes, attack or model', () => {
    expect(isRecording(folder)).toBe(true);
    const recording = readRecording(folder);
    const [session] = sessionsOf(recording.calls, cataloguesOf(recording.environments));
    expect(session).toHaveLength(2);
    expect(session?.[1]).toEqual({
      suite: 'banking',
      run: 7,
      callIndex: 1,
      body: {
        subject: { type: 'user', id: 'emma.johnson' },
        agent: { type: 'agent', id: 'banking-assistant', properties: { instance: '7' } },
        action: { name: 'send_money' },
        resource: { type: 'account', id: 'DE00' },
        context: {
          purpose: 'user_task_2',
          session: 'run-7',
          args: { recipient: 'DE00', amount: 1.5 },
          arg_origin: { recipient: 'u', amount: 'm' },
          prior_tools: ['get_balance'],
        },
      },
    });
    const text = JSON.stringify(session);
    for (const oracle of ['label', 'tainted', 'security', 'utility', 'attack', 'injection_task', 'some-model', 'Pay'])
      expect(text).not.toContain(oracle);
  });

  it('is refused with file and line when a call lacks a member', () => {
    const broken = mkdtempSync(path.join(os.tmpdir(), 'edict-recording-'));
    try {
      writeFileSync(path.join(broken, 'calls.ndjson.gz'), lines(recordedCall, { run: 1 }));
      expect(() => readRecording(broken)).toThrow(/calls\.ndjson\.gz, line 2: /);
    } finally {
      rmSync(broken, { recursive: true });
    }
  });
});

describe('the object of a call', () => {
  const catalogue = catalogueOf({
    cloud_drive: { account_email: 'me@example.org', initial_files: [{ id_: '3', filename: 'plan.docx' }] },
    inbox: { account_email: 'me@example.org', initial_emails: [] },
    hotels: { hotel_list: [{ name: 'North' }, { name: 'South' }] },
  });
  const call = (name: string, args: Record<string, unknown>) => ({ ...recordedCall, function: name, args });

  it.each([
    ['the file that an argument names', call('delete_file', { file_id: '3' }), { type: 'file', id: '3' }],
    ['the one object of a list of one', call('price', { hotel_names: ['South'] }), { type: 'hotel', id: 'South' }],
    [
      'the tool for a list of several',
      call('price', { hotel_names: ['North', 'South'] }),
      { type: 'tool', id: 'price' },
    ],
    [
      'the tool for an object that is not there',
      call('delete_file', { file_id: '9' }),
      { type: 'tool', id: 'delete_file' },
    ],
    ['the own mailbox', call('get_unread_emails', {}), { type: 'mailbox', id: 'me@example.org' }],
    ['the tool when the world has no such thing', call('get_balance', {}), { type: 'tool', id: 'get_balance' }],
  ])('is %s', (_what, asked, expected) => {
    expect(resourceOf(asked, catalogue)).toEqual(expected);
  });
});

describe('the bundles of a replay', () => {
  const directories = new Map([['banking', {}]]);
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-replay-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('leave out the cases of the demo bundle, which hold for its own data only', async () => {
    const demo = await readDemoBundle();
    const cases = { path: 'cases/a.json', bytes: readFileSync('policies/cases/delegation.json') };
    const withCases = { ...demo, files: [...demo.files, cases] };
    const paths = async (archive: Uint8Array) => (await readBundle(archive)).files.map((file) => file.path);
    expect(await paths(await bundleWith(withCases, { serial: demo.serial + 1 }))).toContain(cases.path);
    const written = await writeReplayBundles(folder, directories, withCases);
    expect(await paths(readFileSync(written.get('banking')!))).not.toContain(cases.path);
  });

  it('are not written when a decision point would refuse them', async () => {
    const demo = await readDemoBundle();
    const files = demo.files.map((file) =>
      file.path === 'policy.wasm' ? { ...file, bytes: file.bytes.slice(0, 1_000) } : file,
    );
    await expect(writeReplayBundles(folder, directories, { ...demo, files })).rejects.toMatchObject({
      code: 'bundle_invalid',
    });
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('the generated recording', () => {
  it('is the same each time and has as many calls as asked for', () => {
    expect(generateRecording(300)).toEqual(generateRecording(300));
    expect(generateRecording(300).calls).toHaveLength(300);
  });

  it('meets allow and deny in every suite under the bundles that the replay makes for it', async () => {
    const recording = generateRecording(300);
    const demo = await readDemoBundle();
    const decisions = new Map<string, Set<boolean>>();
    for (const [suite, data] of directoriesOf(recording)) {
      const bundle = await readBundle(await bundleWith(demo, { data, name: `replay-${suite}` }));
      const { evaluate } = await createWasmEvaluator(bundle);
      const allowed = new Set<boolean>();
      decisions.set(suite, allowed);
      for (const session of sessionsOf(recording.calls, cataloguesOf(recording.environments))) {
        for (const { body, ...request } of session) {
          if (request.suite !== suite) continue;
          const party = { properties: {}, verified: true };
          const result = evaluate(
            JSON.stringify({
              version: 1,
              tenant: suite,
              caller: { id: 'test', properties: {} },
              ...body,
              subject: { ...party, ...body.subject },
              agent: { ...party, chain: [], ...body.agent },
              action: { properties: {}, ...body.action },
              resource: { properties: {}, ...body.resource },
              session: { labels: [], step: request.callIndex },
              time: { rfc3339: '2026-01-01T00:00:00.000Z', ns: 1_767_225_600_000_000_000 },
            }),
            Date.UTC(2026, 0, 1),
          );
          if (result.outcome !== 'answer') throw new Error(result.message);
          allowed.add(result.value.allow);
        }
      }
    }
    expect(decisions).toEqual(
      new Map([
        ['bakery', new Set([true, false])],
        ['library', new Set([true, false])],
      ]),
    );
  });
});

describe('a sample', () => {
  it('keeps whole runs in order, is not larger than asked, and takes from the whole recording', () => {
    const { calls } = generateRecording(1_000);
    const sample = sampleCalls(calls, 200);
    expect(sample.length).toBeLessThanOrEqual(200);
    expect(sample.length).toBeGreaterThan(180);
    const runs = new Set(sample.map(({ run }) => run));
    expect(sample).toEqual(calls.filter(({ run }) => runs.has(run)));
    expect(Math.max(...runs)).toBeGreaterThan(Math.max(...calls.map(({ run }) => run)) * 0.9);
  });
});

describe('what was answered and what the ledger has', () => {
  const answer = (decisionId: string, sequence: string, decision: 'allow' | 'deny' = 'allow') => ({
    tenant: 'acme',
    decisionId,
    decision,
    emitter: 'e',
    boot: '1',
    sequence,
  });
  const row = (id: string, seq: string, decision = 'allow') => ({
    decision_id: id,
    seq,
    decision,
    event_time: '',
    ingest_time: '',
    payload: 'opened',
  });
  const answered = [answer('a', '1'), answer('b', '2'), answer('c', '10')];

  it('agree when each decision is there once, in order; decisions that nobody got may be there too', () => {
    expect(differences([row('a', '0'), row('x', '1'), row('b', '2'), row('c', '3')], answered)).toEqual([]);
  });

  it.each([
    ['one is missing', [row('a', '0'), row('b', '1')], '1 of 3 answered decisions are not in the ledger'],
    [
      'one stands twice',
      [row('a', '0'), row('b', '1'), row('c', '2'), row('x', '3'), row('x', '4')],
      '1 decisions stand twice',
    ],
    [
      'one says otherwise',
      [row('a', '0', 'deny'), row('b', '1'), row('c', '2')],
      '1 decisions are others than were answered',
    ],
    [
      'two changed places',
      [row('a', '0'), row('c', '1'), row('b', '2')],
      "1 decisions are out of their emitter's order",
    ],
  ])('differ when %s', (_what, rows, problem) => {
    expect(differences(rows, answered)).toEqual([problem]);
  });

  it('are counted by suite and decision', () => {
    const audit = { durability: 'spool', emitter: 'e', boot: '1', sequence: '1' };
    const outcomes = [
      outcomeOf('b', { status: 200, tookMs: 1, body: { decision_id: 'x', decision: 'allow', audit } }),
      outcomeOf('b', { status: 500, tookMs: 3, body: { decision_id: 'y', decision: 'deny', audit } }),
      outcomeOf('a', { status: 503, tookMs: 2, body: { decision: 'deny', allow: false } }),
    ];
    expect(countsOf(outcomes)).toEqual([
      { suite: 'a', allow: 0, deny: 0, errors: 1 },
      { suite: 'b', allow: 1, deny: 1, errors: 0 },
    ]);
    expect(countsTable(countsOf(outcomes)).split('\n').at(-1)).toBe('all        1     1       1');
    expect(figuresOf(outcomes, 1_000)).toEqual({ calls: 3, decisionsPerS: 3, p50Ms: 2, p99Ms: 3 });
  });

  it('cannot be compared when an answer at 200 is no decision', () => {
    expect(() => outcomeOf('a', { status: 200, tookMs: 1, body: { decision: 'allow' } })).toThrow(/no decision/);
  });
});

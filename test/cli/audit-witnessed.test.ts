import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createSignerMetrics } from '../../services/audit/signer/metrics.ts';
import { createWitnessMetrics } from '../../services/audit/witness/metrics.ts';
import { startWitnesses, type Witnesses } from '../../services/audit/witness/witnesses.ts';
import { developmentCaller } from '../../services/shared/callers/api-keys.ts';
import { generateSigningKey } from '../../services/shared/contracts/signatures.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import { formatWitnessVkey } from '../../services/shared/tlog/cosignature.ts';
import { parsePolicy } from '../../services/shared/tlog/policy.ts';
import { startWitness, type RunningWitness } from '../../services/witness/main.ts';
import { silent } from '../audit/ingest/fixtures.ts';
import { nameForSearch, newDecision } from '../audit/postgres/ledger-fixture.ts';
import { openSigningFixture, type SigningFixture } from '../audit/signer/signing-fixture.ts';
import { repositoryRoot } from '../support/prepared-parts.ts';
import { startAudit, type StartedAudit } from '../audit/http/started-audit.ts';

describe('what witnesses say, on the command line', () => {
  let fixture: SigningFixture;
  let running: RunningWitness[];
  let witnesses: Witnesses;
  let audit: StartedAudit;
  let good: string;
  let unreached: string;
  let three: string;

  const file = (name: string): string => path.join(fixture.ledger.folder, name);

  beforeAll(async () => {
    fixture = await openSigningFixture();
    const { ledger, sealer, newSigner, store } = fixture;
    running = await Promise.all(
      ['own', 'second', 'third'].map((name) =>
        startWitness(
          { logFiles: [file('@meta-1.vkey')], folder: file(name), listen: '127.0.0.1:0', name: `${name}.example/w` },
          { logger: silent },
        ),
      ),
    );
    const metaKey = readFileSync(file('@meta-1.vkey'), 'utf8').trim();
    const [known = '', ...others] = running.map(({ vkey, url }, n) => `witness w${n} ${vkey} ${url}\n`);
    const away = `witness away ${formatWitnessVkey('away.example', generateSigningKey().key.publicKey)}\n`;
    [good, unreached, three] = [file('good.policy'), file('unreached.policy'), file('three.policy')];
    const logs = `log ${metaKey}\nlog ${readFileSync(file('acme-1.vkey'), 'utf8').trim()}\n`;
    writeFileSync(good, `${logs}${known}quorum w0\n`);
    writeFileSync(three, `${logs}${known}${others.join('')}group two 2 w0 w1 w2\nquorum two\n`);
    writeFileSync(unreached, `log ${metaKey}\n${known}${away}group both all w0 away\nquorum both\n`);
    const policy = parsePolicy(readFileSync(three));
    if ('problem' in policy) throw new Error(policy.problem);
    await ledger.write(({ append }) => append(ledger.log, [newDecision(), newDecision()]));
    await sealer.sealAll();
    await newSigner().signAll();
    const registry = createRegistry({ service: 'signer', processMetrics: false });
    const metrics = createWitnessMetrics(registry, createSignerMetrics(registry).alarms);
    witnesses = startWitnesses({ policy, store, intervalMs: 50, timeoutMs: 20_000, logger: silent, metrics });
    const database = ledger.as('reader_all');
    const { keys } = ledger;
    const caller = developmentCaller({ tenants: { acme: {} } } as never);
    audit = await startAudit({
      database,
      keys,
      reports: ledger.as('writer'),
      access: () => ({ mode: 'open', caller, tenants: new Set(['acme']) }),
      nameSubject: nameForSearch,
    });
  }, 60_000);
  afterAll(async () => {
    await audit.close();
    await witnesses.close();
    for (const witness of running) await witness.close();
    await fixture.ledger.close();
  });

  const edict = (command: string, ...args: readonly string[]) =>
    run([command, '--url', audit.url, '--tenant', 'acme', ...args]);
  const run = (args: readonly string[]) =>
    new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve, reject) => {
      const child = spawn(process.execPath, ['dist/services/cli/main.js', 'audit', ...args], {
        cwd: repositoryRoot,
        env: { PATH: process.env['PATH'] },
      });
      const out = { stdout: '', stderr: '' };
      child.stdout.on('data', (chunk: Buffer) => (out.stdout += chunk.toString('utf8')));
      child.stderr.on('data', (chunk: Buffer) => (out.stderr += chunk.toString('utf8')));
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, ...out }));
    });

  it('checkpoint and verify say whether a quorum has seen the newest checkpoint', async () => {
    const vkey = file('acme-1.vkey');
    const seen = await edict('checkpoint', '--vkey', vkey, '--policy', good);
    expect(seen).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(
        /^entries up to 3 are in a meta checkpoint that own\.example\/w cosigned \d+ s ago; [^\n]+ can show\n$/,
      ) as string,
    });
    const unasked = await edict('checkpoint', '--vkey', vkey, '--json');
    expect(unasked.code).toBe(0);
    expect(JSON.parse(unasked.stdout)).toMatchObject({ witnessed: { status: 'not_checked' } });
    const verified = JSON.parse((await edict('verify', '--json', '--policy', good)).stdout) as Record<string, unknown>;
    expect(verified['witnessed']).toMatchObject([
      {
        origin: fixture.ledger.log.origin,
        status: 'ok',
        size: '4',
        meta: { origin: 'test.example/-/meta/1', size: '2' },
      },
    ]);
    const plain = await edict('verify');
    expect(plain.stdout).toMatch(/witnessed +not checked\n +no --policy: witnesses were not asked about/);
  }, 120_000);

  it('without a quorum it is red, and the checkpoint is not kept', async () => {
    const hold = file('held');
    const [checkpoint, verify] = await Promise.all([
      edict('checkpoint', '--vkey', file('acme-1.vkey'), '--policy', unreached, '--hold', hold),
      edict('verify', '--policy', unreached),
    ]);
    expect(checkpoint).toMatchObject({
      code: 1,
      stderr: '! not witnessed: no quorum, cosigned by own.example/w only\n',
    });
    expect(() => readFileSync(hold)).toThrow('ENOENT');
    expect(verify.code).toBe(1);
    expect(verify.stdout).toMatch(/witnessed +FAILED\n +not witnessed: no quorum/);
  }, 120_000);

  it('ends with 2 for a policy that is none', async () => {
    writeFileSync(file('bad.policy'), 'quorum none\n');
    expect(await edict('verify', '--policy', file('bad.policy'))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('names no log') as string,
    });
    expect((await edict('verify', '--policy', good, '--max-age', 'soon')).code).toBe(2);
  }, 60_000);

  it.each([
    ['verify --max-age without --policy', ['verify', '--max-age', '1m'], '--max-age: goes with --policy only'],
    [
      'checkpoint --max-age without --policy',
      ['checkpoint', '--vkey', 'acme-1.vkey', '--max-age', '1m'],
      '--max-age: goes with --policy only',
    ],
    ['verify --file with --max-age', ['verify', '--file', 'x', '--max-age', '1m'], '--file: goes with'],
    ['verify --log-url with --full', ['verify', '--log-url', 'http://127.0.0.1:1/log', '--full'], '--log-url names'],
    [
      'verify --log-url with --max-age',
      ['verify', '--log-url', 'http://127.0.0.1:1/log', '--max-age', '1m'],
      '--log-url names',
    ],
  ] as const)('ends with 2 for an option that would do nothing: %s', async (_name, args, reason) => {
    const named = args.map((arg) => (arg === 'acme-1.vkey' ? file(arg) : arg));
    expect(await run(named)).toMatchObject({ code: 2, stderr: expect.stringContaining(reason) as string });
  });

  it('prints and holds of a checkpoint what was verified of it', async () => {
    const { id } = fixture.ledger.log;
    const [hold, vkey] = [file('held-clean'), file('acme-1.vkey')];
    const clean = (await edict('checkpoint', '--vkey', vkey)).stdout;
    await fixture.tamper(
      `update edict.checkpoint set note = note || convert_to(E'— evil\\u009b AAAAAAECAwQ=\\n', 'UTF8') where log_id = ${id}`,
    );
    expect(await edict('checkpoint', '--vkey', vkey, '--hold', hold)).toMatchObject({ code: 0, stdout: clean });
    expect(readFileSync(hold, 'utf8')).toBe(clean);
    await fixture.tamper(`update edict.checkpoint set note = convert_to('${clean}', 'UTF8') where log_id = ${id}`);
  }, 60_000);

  it('is beside the proof of a decision, whose own tree is the witnessed one', async () => {
    const ask = async (route: string): Promise<Record<string, unknown>> =>
      (await (await fetch(`${audit.url}${route}`)).json()) as Record<string, unknown>;
    const { decisions } = (await ask('/v1/decisions?tenant=acme&limit=1')) as { decisions: Record<string, string>[] };
    const { decision_id: id = '', seq = '' } = decisions[0]!;
    await fixture.tamper(
      `insert into edict.received (log_id, event_id, digest, emitter, boot, number, seq)
       values (${fixture.ledger.log.id}, '${id}', sha256('x'), '${'ab'.repeat(16)}', 1, 1, ${seq})`,
    );
    const shown = await ask(`/v1/decisions/${id}?tenant=acme`);
    const { witnessed } = (await ask('/v1/witnessed?tenant=acme')) as { witnessed: Record<string, unknown> };
    expect(shown['witnessed']).toEqual({ ...witnessed, proof: shown['proof'] });
    expect(witnessed).toMatchObject({ checkpoint: shown['checkpoint'], proof: null });
    expect((await fetch(`${audit.url}/v1/witnessed?tenant=acme&log=x`)).status).toBe(404);
    expect((await fetch(`${audit.url}/v1/witnessed?tenant=acme&size=1`)).status).toBe(400);
  });

  it('one witness that is away changes nothing for a quorum of the others', async () => {
    const { ledger, sealer, newSigner, metaCheckpoints } = fixture;
    const untilSeenBy = async (count: number): Promise<void> => {
      const size = String((await metaCheckpoints()).at(-1)?.size);
      for (const deadline = Date.now() + 60_000; ; await sleep(50)) {
        if (witnesses.states().filter((state) => state.size === size).length === count) return;
        if (Date.now() > deadline) throw new Error(`did not happen: ${JSON.stringify(witnesses.states())}`);
      }
    };
    await untilSeenBy(3);
    await running.pop()?.close();
    await ledger.write(({ append }) => append(ledger.log, [newDecision()]));
    await sealer.sealAll();
    await newSigner().signAll();
    await untilSeenBy(2);
    expect(await edict('checkpoint', '--vkey', file('acme-1.vkey'), '--policy', three)).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(
        /^entries up to 5 are in a meta checkpoint that own\.example\/w, second\.example\/w cosigned /,
      ) as string,
    });
  }, 120_000);
});

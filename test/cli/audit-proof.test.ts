/** From a real ledger and signer over a real witness to files, and back; and what a thief of the keys can make of them. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { verifyProof } from '../../services/audit/core/verify-proof.ts';
import { createMetaReader } from '../../services/audit/postgres/read-meta.ts';
import { createAuthenticate, newApiKey } from '../../services/shared/callers/api-keys.ts';
import { writeProofFiles } from '../../services/cli/commands/audit-proof-files.ts';
import { formatAddCheckpoint } from '../../services/shared/tlog/add-checkpoint.ts';
import { openCosignatures, parseWitnessVkey } from '../../services/shared/tlog/cosignature.ts';
import { parsePolicy } from '../../services/shared/tlog/policy.ts';
import { consistencyProof } from '../../services/shared/tlog/proofs.ts';
import { startWitness, type RunningWitness } from '../../services/witness/main.ts';
import { silent } from '../audit/ingest/fixtures.ts';
import { nameForSearch, newDecision } from '../audit/postgres/ledger-fixture.ts';
import { openSigningFixture, type SigningFixture } from '../audit/signer/signing-fixture.ts';
import { runEdict, type CommandResult } from '../support/edict-process.ts';
import { startAudit, type StartedAudit } from '../audit/http/started-audit.ts';

const META = 1;

describe('proof files of a ledger', () => {
  let fixture: SigningFixture;
  let witness: RunningWitness;
  let audit: StartedAudit;
  let policy: string;
  let keyFile: string;
  /** The event of the first test. */
  let honest: string;
  const file = (name: string): string => path.join(fixture.ledger.folder, name);
  const write = (name: string, content: string | Uint8Array): string => {
    writeFileSync(file(name), content);
    return file(name);
  };

  beforeAll(async () => {
    fixture = await openSigningFixture();
    const { ledger } = fixture;
    await fixture.newSigner().signAll();
    witness = await startWitness(
      { logFiles: [file('@meta-1.vkey')], folder: file('witness'), listen: '127.0.0.1:0', name: 'witness.example/w1' },
      { logger: silent },
    );
    const vkeys = ['acme-1.vkey', '@meta-1.vkey'].map((name) => `log ${readFileSync(file(name), 'utf8').trim()}\n`);
    policy = write('policy', `${vkeys.join('')}witness w1 ${witness.vkey}\nquorum w1\n`);
    const { key, stored } = newApiKey();
    keyFile = write('auditor.key', `${key}\n`);
    const caller = { requires_agent: false, believe_unverified: true, properties: {}, api_keys: [stored] };
    const database = ledger.as('reader_all');
    audit = await startAudit({
      database,
      keys: ledger.keys,
      access: () => ({
        mode: 'callers',
        authenticate: createAuthenticate([{ id: 'auditor', tenant: 'acme', roles: ['audit'], ...caller }]),
      }),
      nameSubject: nameForSearch,
    });
  }, 60_000);
  afterAll(async () => {
    await audit.close();
    await witness.close();
    await fixture.ledger.close();
  });

  /** Decisions of acme, sealed and signed; the id of the first. */
  const grow = async (memoryFolder?: string): Promise<string> => {
    const { ledger, sealer, newSigner, store } = fixture;
    const decisions = [newDecision(), newDecision()];
    await ledger.write(({ append }) => append(ledger.log, decisions));
    // As the ingest does, which these tests go without.
    await ledger.as('admin').query(
      `insert into edict.received (log_id, event_id, digest, emitter, boot, number, seq)
       select d.log_id, d.event_id, sha256('bytes'), repeat('ab', 16), 1, d.seq, d.seq
       from edict.decision d where d.log_id = $1::int on conflict do nothing`,
      [ledger.log.id],
    );
    await sealer.sealAll();
    await newSigner(store, memoryFolder).signAll();
    return decisions[0]?.eventId ?? '';
  };

  /** Sends the newest checkpoint of the meta log to the witness, and keeps its cosignature; gives the status. */
  const askWitness = async (from: bigint): Promise<number> => {
    const { store } = fixture;
    const log = await store.metaLog();
    if (log?.checkpoint === undefined) throw new Error('the meta log has no checkpoint');
    const { size, note } = log.checkpoint;
    const proof =
      from === 0n
        ? []
        : await consistencyProof(from, size, (...range) =>
            createMetaReader(fixture.ledger.as('signer')).hashes(META, ...range),
          );
    const body = formatAddCheckpoint({ oldSize: from, proof, checkpoint: note });
    const response = await fetch(`${witness.url}/add-checkpoint`, { method: 'POST', body: new Uint8Array(body) });
    const line = Buffer.from(await response.text(), 'utf8');
    if (response.status !== 200) return response.status;
    const [found] = openCosignatures(Buffer.concat([note, line]), [parseWitnessVkey(witness.vkey)]) ?? [];
    if (found === undefined) throw new Error('no cosignature');
    await fixture.ledger.as('signer').query(
      `insert into edict.meta_attestation (incarnation, size, kind, source, time_ms, bytes, stored_us)
       values ($1::int, $2::bigint, 'cosignature', $3::text, $4::bigint, $5::bytea, 1)`,
      [META, String(size), found.witness.name, String(found.timeS * 1_000), line],
    );
    return 200;
  };
  const metaSize = async (): Promise<bigint> => (await fixture.store.metaLog())?.checkpoint?.size ?? 0n;

  const show = (id: string, name: string): Promise<CommandResult> => {
    const files = ['--proof', file(`${name}.tlog-proof`), '--event', file(`${name}.json`)];
    return runEdict(['audit', 'show', id, '--url', audit.url, '--key-file', keyFile, ...files]);
  };
  const verify = async (name: string, ...more: readonly string[]) => {
    const files = [file(`${name}.tlog-proof`), file(`${name}.meta.tlog-proof`)];
    const args = ['audit', 'verify-proof', ...files, '--policy', policy, '--event', file(`${name}.json`), ...more];
    return runEdict(args);
  };
  /** The verdicts that are not ok, and whether the files are good. */
  const verdictsOf = (name: string) => {
    const trusted = parsePolicy(readFileSync(policy));
    if ('problem' in trusted) throw new Error(trusted.problem);
    const { verdicts, isGood } = verifyProof(
      {
        entry: readFileSync(file(`${name}.tlog-proof`)),
        meta: readFileSync(file(`${name}.meta.tlog-proof`)),
        event: readFileSync(file(`${name}.json`)),
      },
      trusted,
    );
    const notOk = Object.entries(verdicts).flatMap(([verdict, { status }]) =>
      status === 'ok' ? [] : [[verdict, status]],
    );
    return { isGood, notOk: Object.fromEntries(notOk) as Readonly<Record<string, string>> };
  };

  it('are written whole, and verify with nothing but the policy', async () => {
    const id = await grow();
    honest = id;
    expect(await askWitness(0n)).toBe(200);
    // A newer checkpoint that nobody cosigned yet: the proof hangs on the one that was.
    await grow();
    const shown = await show(id, 'honest');
    expect(shown).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('honest.meta.tlog-proof') });
    const { code, stdout } = await verify('honest');
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining(`event ${id}`) });
    expect(stdout.match(/ {2}ok {2}/g)).toHaveLength(6);
    expect(stdout).toContain('witness.example/w1');
    // An older file of the meta log, which too few cosigned, does not hide the good one, whichever comes first.
    const lonely = readFileSync(file('honest.meta.tlog-proof'), 'utf8').replace(/— witness\.example\/w1 .*\n/, '');
    const both = [write('lonely.meta.tlog-proof', lonely), file('honest.meta.tlog-proof')];
    for (const metas of [both, both.toReversed()]) {
      const files = [file('honest.tlog-proof'), ...metas];
      expect((await runEdict(['audit', 'verify-proof', ...files, '--policy', policy])).code).toBe(0);
    }
    const event = readFileSync(file('honest.json'), 'utf8');
    write('honest.json', event.replace('nonce', 'nonsense'));
    const altered = await verify('honest', '--json');
    expect(altered.code).toBe(1);
    expect(JSON.parse(altered.stdout)).toMatchObject({
      proofs: [
        {
          file: file('honest.tlog-proof'),
          origin: 'test.example/acme/0/1',
          event_id: id,
          verdicts: { event: { status: 'failed' }, inclusion: { status: 'ok' }, quorum: { status: 'ok' } },
          cosignatures: [{ witness: 'witness.example/w1' }],
          good: false,
        },
      ],
    });
    write('honest.json', event);
  }, 60_000);

  it('are not called witnessed before a witness saw them', async () => {
    const id = await grow();
    expect((await show(id, 'young')).code).toBe(0);
    const { code, stdout } = await verify('young');
    expect({ code, stdout }).toMatchObject({ code: 1, stdout: expect.stringContaining('NOT WITNESSED') });
    expect(await askWitness(3n)).toBe(409);
    const known = await fetch(`${witness.url}/logs`).then((response) => response.text());
    expect(await askWitness(BigInt(/meta\/1\\n(\d+)\\n/.exec(known)?.[1] ?? '0'))).toBe(200);
    expect((await show(id, 'young')).code).toBe(0);
    expect(verdictsOf('young')).toEqual({ isGood: true, notOk: {} });
  }, 60_000);

  it('leave no file of the meta log of an earlier run behind, where it does not cover the entry', async () => {
    const key = readFileSync(keyFile, 'utf8').trim();
    const answer = await fetch(`${audit.url}/v1/decisions/${honest}`, { headers: { authorization: `Bearer ${key}` } });
    const shown = { ...((await answer.json()) as Record<string, unknown>), witnessed: null };
    const stale = write('stale.meta.tlog-proof', 'of an earlier run');
    expect(await writeProofFiles(honest, shown, { proof: file('stale.tlog-proof') })).toEqual({
      files: [file('stale.tlog-proof')],
      warnings: ['the meta log does not cover it yet: no witness can have seen it'],
      isWhole: true,
    });
    expect(existsSync(stale)).toBe(false);
  }, 60_000);

  it('cannot be made by who rewrites the ledger with the stolen keys of its logs', async () => {
    const { ledger, tamper } = fixture;
    const before = await metaSize();
    const { id: log } = ledger.log;
    // A superuser takes away what happened, with every trace in the database, and writes another history.
    await tamper(
      [
        ...['payload', 'entry', 'decision', 'received'].map(
          (table) => `delete from edict.${table} where log_id = ${log} and seq > 0`,
        ),
        `update edict.log_head set size = 1,
           leaf = (select e.leaf from edict.entry e where e.log_id = ${log} and e.seq = 0) where log_id = ${log}`,
        ...['tree_node', 'checkpoint'].map((table) => `delete from edict.${table} where log_id = ${log}`),
        'alter table edict.meta_attestation disable trigger user',
        ...['attestation', 'checkpoint', 'node', 'leaf'].map((table) => `delete from edict.meta_${table}`),
      ].join(';'),
    );
    let id = '';
    // The keys are stolen and the signer's memory is gone, so the second history is signed as the first one was.
    while ((await metaSize()) <= before) id = await grow(file('memory-of-the-thief'));
    expect(await askWitness(before)).toBe(422);
    expect((await show(id, 'forged')).code).toBe(0);
    expect(verdictsOf('forged')).toEqual({ isGood: false, notOk: { quorum: 'not_witnessed' } });
    // Split view: what others were shown before stays proven, and both cannot be the log.
    expect(verdictsOf('honest')).toEqual({ isGood: true, notOk: {} });
    const metrics = await fetch(`${witness.url}/metrics`).then((response) => response.text());
    expect(metrics).toMatch(/edict_witness_requests_total\{[^}]*status="422"[^}]*\} 1/);
  }, 60_000);

  it('are asked for with what they need', async () => {
    const bad = write('bad.policy', 'quorum w9\n');
    const whole = file('honest.tlog-proof');
    const run = (...args: readonly string[]) => runEdict(['audit', 'verify-proof', ...args]);
    expect(await run(whole, '--policy', bad)).toMatchObject({ code: 2, stderr: expect.stringContaining('line 1: ') });
    expect(await run(file('honest.meta.tlog-proof'), '--policy', policy)).toMatchObject({ code: 2 });
  });
});

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { SourceMessage } from '../../../services/audit/core/ingest-source.ts';
import { createIngest } from '../../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../../services/audit/ingest/metrics.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import { hex } from '../../../services/shared/contracts/bytes.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { repositoryRoot } from '../../support/prepared-parts.ts';
import { createEmitter, messageOf, type MadeEvent } from '../core/ingest-fixtures.ts';
import { fsckLogs } from '../http/fsck-logs.ts';
import { masterKey, nameForSearch } from '../postgres/ledger-fixture.ts';
import type { SigningFixture } from '../signer/signing-fixture.ts';
import { silent } from './fixtures.ts';
import { formatMessages } from './message-file.ts';

const child = path.join(repositoryRoot, 'dist', 'test', 'audit', 'ingest', 'ingest-child.js');
const alive = () => Promise.resolve(true);

/** Of everything that an ingest writes: decisions of two tenants, what is no event, an artifact, a hole and its end. */
const batchOf = (emitter: ReturnType<typeof createEmitter>, stranger: ReturnType<typeof createEmitter>, n: number) => {
  const some: readonly MadeEvent[] = [emitter.event('acme'), emitter.event('acme'), emitter.event('edict')];
  const late = emitter.event('acme');
  const noEvent = { headers: { tenant: 'acme' }, bytes: Buffer.from(`{"no event":${n}}`) };
  return [
    ...some,
    emitter.event('acme', { type: 'edict.artifact.v1' }),
    stranger.event('nobody'),
    noEvent,
    emitter.event('acme'),
    late,
    some[0] as MadeEvent,
  ];
};

/**
 * Kills a writer at the `first` statement and at each `every`th after it, of both databases, until one lives through
 * them all; each time the next writer goes on, a checkpoint is signed, and in the end everything is verified. Gives how
 * many were killed.
 */
export const killAtStatements = async (
  fixture: SigningFixture,
  { first, every }: { readonly first: number; readonly every: number },
): Promise<number> => {
  const { ledger, sealer, newSigner, checkpoints } = fixture;
  // A tenant without an event, and one with a single event.
  await ledger.createTenant('empty');
  await ledger.createTenant('single');
  const restarted = () =>
    createIngest({
      database: ledger.as('writer'),
      writeLedger: ledger.write,
      nowUs: () => BigInt(Date.now()) * 1_000n,
      batch: 100,
      gapGraceMs: 60_000,
      pinned: [],
      isCommitDurable: true,
      onCommitted: () => undefined,
      logger: silent,
      metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
    });
  const [emitter, stranger] = [createEmitter(), createEmitter()];
  let offset = 0n;
  const messagesOf = (events: readonly Pick<MadeEvent, 'bytes' | 'headers'>[]): readonly SourceMessage[] =>
    events.map((event) => messageOf(event, (offset += 1n) - 1n));
  await restarted().take(messagesOf([emitter.event('single')]), alive);
  const roots = new Map<string, string>();
  let batches = 0;
  let killed = 0;
  for (let step = first; ; step += every) {
    const messages = messagesOf(batchOf(emitter, stranger, step));
    batches += 1;
    const file = path.join(ledger.folder, 'messages.json');
    writeFileSync(file, formatMessages(messages));
    const ended = spawnSync(
      process.execPath,
      [child, ledger.url('writer'), ledger.url('admin'), hex(masterKey), file, String(step)],
      { cwd: repositoryRoot, encoding: 'utf8' },
    );
    if (ended.signal === 'SIGKILL') killed += 1;
    else if (ended.status !== 0) throw new Error(ended.stderr);
    const { nextOffset } = await restarted().take(messages, alive);
    expect(nextOffset).toBe(offset);
    await sealer.sealAll();
    await newSigner().signAll();
    for (const checkpoint of await checkpoints(ledger.log.id)) {
      const root = hex(checkpoint?.root ?? Buffer.alloc(0));
      expect(roots.get(String(checkpoint?.size)) ?? root).toBe(root);
      roots.set(String(checkpoint?.size), root);
    }
    if (ended.status === 0) break;
  }
  expect(await fixture.alarms()).toEqual([]);

  const entries = await ledger.as('admin').query<{ tenant: string; kind: number; n: number; ids: number }>(
    `select l.tenant::text as tenant, get_byte(e.header, 1) as kind, count(*)::int as n,
            count(distinct substr(e.header, 19, 16))::int as ids
     from edict.entry e join edict.log l on l.id = e.log_id group by 1, 2`,
    [],
  );
  const countOf = (tenant: string, kind: number) => entries.find((row) => row.tenant === tenant && row.kind === kind);
  expect(countOf('acme', 1)).toMatchObject({ n: 4 * batches, ids: 4 * batches });
  expect(countOf('acme', 14)).toMatchObject({ n: batches, ids: batches });
  expect(countOf('acme', 3)).toMatchObject({ n: batches });
  expect(countOf('edict', 1)).toMatchObject({ n: batches, ids: batches });
  expect(countOf('edict', 3)).toMatchObject({ n: batches });
  expect(countOf('single', 1)).toMatchObject({ n: 1 });
  expect(countOf('empty', 1)).toBeUndefined();

  const verify = createVerifier({
    database: ledger.as('reader_all'),
    reports: ledger.as('writer'),
    keys: ledger.keys,
    nameForSearch,
    graceMs: 60_000,
    placeKey: Buffer.alloc(32, 1),
  });
  const tenants = ['acme', 'edict', 'single', 'empty'];
  for (const tenant of tenants) {
    const reports = await verify(tenant, {});
    expect(reports.flatMap(({ findings }) => findings)).toEqual([]);
    expect(reports[0]?.verdicts.integrity.status).toBe('ok');
  }
  expect(await fsckLogs(ledger, tenants)).toEqual(
    tenants.map(() => ({ code: 0, said: expect.stringContaining("Successfully fsck'd log") as string })),
  );
  return killed;
};

import type { SourceMessage } from '../../../services/audit/core/ingest-source.ts';
import { createEmitter, messageOf, type MadeEvent } from '../core/ingest-fixtures.ts';
import { openTestLedger, type LedgerHarness } from './fixtures.ts';

const alive = () => Promise.resolve(true);
const messages = (events: readonly Pick<MadeEvent, 'bytes' | 'headers'>[], from = 0n): readonly SourceMessage[] =>
  events.map((event, index) => messageOf(event, from + BigInt(index)));
const count = (kinds: readonly string[], kind: string): number => kinds.filter((each) => each === kind).length;

describe('ingest', () => {
  let opened: Awaited<ReturnType<typeof openTestLedger>>;
  let harness: LedgerHarness;
  beforeEach(async () => {
    opened = await openTestLedger(['edict', 'acme']);
    ({ harness } = opened);
  });
  afterEach(() => opened.close());

  it('stores each event once through a storm of redeliveries, in batches of any size', async () => {
    const emitter = createEmitter();
    const events = Array.from({ length: 120 }, () => emitter.event('acme'));
    const ingest = harness.newIngest({ batch: 7 });
    const storm = [...events.slice(0, 60), ...events.slice(30, 90), ...events, ...events.toReversed()];
    expect(await ingest.take(messages(storm), alive)).toEqual({ nextOffset: BigInt(storm.length), fenced: false });
    expect(count(await harness.kinds('acme'), 'decision')).toBe(120);
    expect(await harness.streams()).toMatchObject([
      {
        tenant: 'acme',
        emitter: emitter.id,
        boot: '1',
        complete_to: '120',
        highest: '120',
        covered_to: '120',
        holes: [],
      },
    ]);
    expect((await ingest.positions('edict.decisions.v1')).get(0)).toBe(BigInt(storm.length));
  });

  it('passes over what its cursor has, also in a new process', async () => {
    const emitter = createEmitter();
    const batch = messages([emitter.event('acme'), emitter.event('acme')]);
    await harness.newIngest().take(batch, alive);
    const restarted = harness.newIngest();
    await restarted.positions('edict.decisions.v1');
    expect(await restarted.take(batch, alive)).toEqual({ nextOffset: 2n, fenced: false });
    expect(await harness.kinds('acme')).toEqual(['incarnation', 'decision', 'decision']);
  });

  it('finds an id that comes again under a new number, in a later batch, and takes what comes with it', async () => {
    const emitter = createEmitter();
    const ingest = harness.newIngest();
    const first = emitter.event('acme');
    await ingest.take(messages([first]), alive);
    const batch = [emitter.event('acme'), emitter.event('acme', { id: first.id }), emitter.event('acme')];
    expect(await ingest.take(messages(batch, 1n), alive)).toEqual({ nextOffset: 4n, fenced: false });
    expect(await harness.kinds('acme')).toEqual(['incarnation', 'decision', 'decision', 'conflict', 'decision']);
    expect(await harness.streams()).toMatchObject([{ complete_to: '4', highest: '4', holes: [] }]);
    expect(ingest.failure()).toBeUndefined();
  });

  it('lets one of two readers of a partition go on and fences the other', async () => {
    const emitter = createEmitter();
    const events = Array.from({ length: 40 }, () => emitter.event('acme'));
    const [zombie, heir] = [harness.newIngest({ batch: 5 }), harness.newIngest({ batch: 5 })];
    await zombie.take(messages(events.slice(0, 10)), alive);
    await heir.positions('edict.decisions.v1');
    await heir.take(messages(events.slice(10, 30), 10n), alive);
    expect(await zombie.take(messages(events.slice(10, 20), 10n), alive)).toEqual({ nextOffset: 30n, fenced: true });
    await Promise.all([
      zombie.take(messages(events.slice(30), 30n), alive),
      heir.take(messages(events.slice(30), 30n), alive),
    ]);
    expect(count(await harness.kinds('acme'), 'decision')).toBe(40);
  });

  it('keeps poison as evidence and goes on behind it', async () => {
    const emitter = createEmitter();
    const poison = { bytes: Buffer.from('{"a":1,"a":2}\0'), headers: { emitter: '\ud800', tenant: 'acme' } };
    await harness.newIngest().take(messages([emitter.event('acme'), poison, emitter.event('acme')]), alive);
    expect(await harness.kinds('acme')).toEqual(['incarnation', 'decision', 'quarantine', 'decision']);
  });

  it('says that it cannot store when a conflict does not go away', async () => {
    // A search row of an entry that does not exist yet: the next entry cannot be stored, again and again.
    await harness.database.query(
      `insert into edict.decision (log_id, seq, event_id, event_time_ms, ingest_us, decision, reasons, subject, action,
                                   resource_type, resource, caller)
       select l.id, 1, gen_random_uuid(), 0, 0, 'deny', '{}', sha256(''), '', '', '', '' from edict.log l
       where l.tenant = 'acme'`,
      [],
    );
    const ingest = harness.newIngest();
    let attempts = 0;
    const seven = (): Promise<boolean> => Promise.resolve((attempts += 1) < 7);
    await expect(ingest.take(messages([createEmitter().event('acme')]), seven)).rejects.toMatchObject({
      code: 'database_conflict',
    });
    expect(ingest.failure()).toContain('SQLSTATE 23505');
  });

  it('stores what an unknown tenant was sent once its ledger exists', async () => {
    const emitter = createEmitter();
    const events = [emitter.event('beta'), emitter.event('beta')];
    const ingest = harness.newIngest();
    await ingest.take(messages([...events, ...events]), alive);
    expect(await harness.kinds('edict')).toEqual(['incarnation', 'quarantine', 'quarantine']);
    expect(await harness.streams()).toEqual([]);
    await harness.create('beta');
    await ingest.take(messages(events, 4n), alive);
    expect(await harness.kinds('beta')).toEqual(['incarnation', 'decision', 'decision']);
    expect(await harness.streams()).toMatchObject([{ tenant: 'beta', complete_to: '2', holes: [] }]);
  });

  it('writes a gap after the grace time and a heal when the number comes after all', async () => {
    const emitter = createEmitter();
    const [first, late, last] = [emitter.event('acme'), emitter.event('acme'), emitter.event('acme')];
    const ingest = harness.newIngest();
    await ingest.take(messages([first, last]), alive);
    expect(await ingest.writeGaps()).toBe(0);
    harness.clock.ms += 60_000;
    expect(await ingest.writeGaps()).toBe(1);
    expect(await ingest.writeGaps()).toBe(0);
    await ingest.take(messages([late], 2n), alive);
    expect(await harness.kinds('acme')).toEqual(['incarnation', 'decision', 'decision', 'gap', 'decision', 'heal']);
    expect(await harness.streams()).toMatchObject([{ complete_to: '3', holes: [] }]);
  });

  it('names a hole that nothing can fill when its emitter says that it is lost', async () => {
    const emitter = createEmitter();
    const events = [emitter.event('acme'), emitter.event('acme'), emitter.event('acme')];
    const lost = emitter.event('acme', { type: 'edict.lost.v1', data: { lost: [{ boot: '1', from: '2', to: '2' }] } });
    const ingest = harness.newIngest();
    await ingest.take(messages([events[0], events[2], lost] as MadeEvent[]), alive);
    expect(await harness.streams()).toMatchObject([{ complete_to: '4', highest: '4', holes: [] }]);
    expect(count(await harness.kinds('acme'), 'lost')).toBe(1);
  });

  it('closes an emitter that never comes back, in every ledger that heard of it', async () => {
    const emitter = createEmitter();
    const acme = [emitter.event('acme'), emitter.event('acme'), emitter.event('acme')];
    const ingest = harness.newIngest();
    await ingest.take(
      messages([emitter.event('edict', { type: 'edict.start.v1' }), acme[0], acme[2]] as MadeEvent[]),
      alive,
    );
    expect(await ingest.retire(emitter.id, 'operator')).toEqual({
      emitter: emitter.id,
      tenants: ['edict', 'acme'],
      streams: 2,
    });
    expect(await harness.streams()).toMatchObject([
      { tenant: 'acme', state: 'retired', complete_to: '3', holes: [] },
      { tenant: 'edict', state: 'retired', complete_to: '1' },
    ]);
    expect((await harness.kinds('acme')).at(-1)).toBe('emitter');
    await expect(ingest.retire('0'.repeat(32), 'operator')).rejects.toMatchObject({ code: 'not_found' });
    await ingest.take(messages([acme[1] as MadeEvent], 3n), alive);
    expect(count(await harness.kinds('acme'), 'decision')).toBe(3);
  });

  it('asks again for what it acknowledged and has no more', async () => {
    const emitter = createEmitter();
    const ingest = harness.newIngest();
    await ingest.take(messages([emitter.event('acme')]), alive);
    const common = { emitter: emitter.id, tenant: 'acme', origin: 'o', tree_size: '9', signature: '' };
    const reclaimed = await ingest.reclaim([
      { ...common, boot: '1', complete_to: '5', covered_to: '5', holes: [['7', '8']] },
      { ...common, boot: '2', complete_to: '3', covered_to: '3', holes: [] },
      { ...common, boot: '2', tenant: 'gone', complete_to: '3', covered_to: '3', holes: [] },
    ]);
    expect(reclaimed).toBe(2);
    expect(await harness.streams()).toMatchObject([
      { boot: '1', complete_to: '1', highest: '8', holes: [{ from: '2', to: '8' }] },
      { boot: '2', complete_to: '0', highest: '3', holes: [{ from: '1', to: '3' }] },
    ]);
  });

  it('records offsets that a source lost, and a source that was made anew', async () => {
    const ingest = harness.newIngest();
    const topic = 'edict.decisions.v1';
    const range = { topic, partition: 0 };
    expect(await ingest.reconcile({ ...range, first: 7n, end: 9n, read: 0n }, alive)).toBe(7n);
    expect(await ingest.reconcile({ ...range, first: 7n, end: 9n, read: 7n }, alive)).toBe(7n);
    expect(await ingest.reconcile({ ...range, first: 0n, end: 3n, read: 7n }, alive)).toBe(0n);
    expect(await harness.kinds('edict')).toEqual(['incarnation', 'gap', 'alert']);
  });

  it('waits while there is no ledger for the system tenant, as long as its source lets it', async () => {
    const empty = await openTestLedger([]);
    let asked = 0;
    const ingest = empty.harness.newIngest();
    const taking = ingest.take(messages([createEmitter().event('acme')]), () => Promise.resolve((asked += 1) < 3));
    await expect(taking).rejects.toMatchObject({ code: 'ledger_missing' });
    expect(ingest.failure()).toContain('system tenant');
    await empty.close();
  });
});

import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { attestedKey, isEventSignedBy } from '../../../services/shared/contracts/events.ts';
import { generateSigningKey, type SigningKey } from '../../../services/shared/contracts/signatures.ts';
import { signAck } from '../../../services/shared/contracts/ack.ts';
import { isUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import { saveCursor } from '../../../services/shared/spool/cursor.ts';
import { realSpoolFs, type SpoolFs } from '../../../services/shared/spool/files.ts';
import { listSpools, slotPaths } from '../../../services/shared/spool/slots.ts';
import { createAckBook } from '../../../services/pdp/audit-trail/ack-book.ts';
import { createFolders, limits } from '../../shared/spool/spool-fixture.ts';
import { draft, openEmitter, spooled, type SpooledEvent } from './emitter-fixture.ts';

const folders = createFolders();
afterEach(() => folders.removeAll());

const failed = expect.objectContaining({ code: 'spool_failed' });

/** Numbers from 1 without a gap and `previous` of the event before, for every stream; returns how many streams. */
const expectWholeStreams = (events: readonly SpooledEvent[]): number => {
  const last = new Map<string, SpooledEvent>();
  for (const event of events) {
    const key = `${event.source}/${event.boot}/${event.tenant}`;
    const before = last.get(key);
    expect(event.sequence).toBe((before?.sequence ?? 0n) + 1n);
    expect(event.data.emitter).toEqual({
      id: event.source,
      boot: event.boot.toString(),
      sequence: event.sequence.toString(),
      previous: before?.digest ?? '0'.repeat(64),
    });
    expect(event.data.tenant).toBe(event.tenant);
    expect(isUuidV7(event.id)).toBe(true);
    last.set(key, event);
  }
  return last.size;
};

const ackOf = (key: SigningKey, emitter: string, boot: bigint, tenant: string, to: bigint) =>
  signAck(key, {
    emitter,
    boot: boot.toString(),
    tenant,
    complete_to: to.toString(),
    holes: [],
    covered_to: to.toString(),
    origin: 'test/1',
    tree_size: '1',
  });

describe('an emitter', () => {
  it('begins with a start event that is signed by the key it names', async () => {
    const home = folders.create();
    const emitter = await openEmitter(home);
    await emitter.close();
    const [start, final, ...rest] = await spooled(home);
    expect(start).toMatchObject({ type: 'edict.start.v1', tenant: 'edict', boot: 1n, sequence: 1n, reserve: true });
    const parsed: unknown = JSON.parse(start!.bytes.toString());
    const key = attestedKey(parsed);
    expect(key?.length).toBe(32);
    expect(final).toMatchObject({ type: 'edict.heartbeat.v1', tenant: 'edict', data: { state: 'final' } });
    expect(isEventSignedBy(JSON.parse(final!.bytes.toString()), key!)).toBe(true);
    expect(rest).toEqual([]);
    expect(statSync(slotPaths(home, '0').key).mode & 0o777).toBe(0o600);
  });

  it('records the activations of other tenants while one has no room', async () => {
    const home = folders.create();
    const emitter = await openEmitter(home, { limits: limits({ quotaBytes: (t) => (t === 'small' ? 100 : 1e9) }) });
    const policy = { bundles: [], set: `sha256:${'a'.repeat(64)}` };
    emitter.recordActivation('small', policy);
    emitter.recordActivation('acme', policy);
    await emitter.close();
    const activations = (await spooled(home)).filter(({ type }) => type === 'edict.activation.v1');
    expect(activations.map(({ tenant }) => tenant)).toEqual(['acme']);
  });

  it('says where an event lies and resolves when it is written', async () => {
    const home = folders.create();
    const emitter = await openEmitter(home);
    const { durable, ...position } = emitter.record(draft('acme', '"answer":{"text":"ünïcödé \\u2028"}'));
    expect(position).toEqual({ emitter: listSpools(home).spools[0]?.emitter, boot: '1', sequence: '1' });
    expect(await durable).toBe('spool');
    const events = await spooled(home);
    expect(events.at(-1)).toMatchObject({
      type: 'edict.decision.v1',
      reserve: false,
      data: { schema_version: 1, answer: { text: 'ünïcödé \u2028' } },
    });
    expect(events.at(-1)?.data.nonce).toMatch(/^[0-9a-f]{32}$/);
    await emitter.close();
  });

  it('numbers and links every stream by boot and tenant, whatever happens in between', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            { weight: 6, arbitrary: fc.constantFrom('a', 'b', 'c') },
            { weight: 1, arbitrary: fc.constantFrom('!restart', '!refusal', '!turn', '!large') },
          ),
          { minLength: 1, maxLength: 40 },
        ),
        async (steps) => {
          const home = folders.create();
          let emitter = await openEmitter(home);
          for (const step of steps) {
            if (step === '!restart') {
              await emitter.close();
              emitter = await openEmitter(home);
            } else if (step === '!refusal')
              emitter.countRefusal({ tenant: 'a', caller: 'gw', code: 'request_invalid', status: 400, bytes: 3 });
            else if (step === '!turn') await nextTurn();
            else if (step === '!large')
              expect(() => emitter.record(draft('a', `"x":"${'x'.repeat(900_000)}"`))).toThrow(
                expect.objectContaining({ code: 'event_too_large' }),
              );
            else emitter.record(draft(step));
          }
          await emitter.close();
          const events = await spooled(home);
          expectWholeStreams(events);
          expect(events.filter(({ type }) => type === 'edict.decision.v1')).toHaveLength(
            steps.filter((step) => !step.startsWith('!')).length,
          );
        },
      ),
      { numRuns: 15 },
    );
  }, 60_000);

  it('links boots: the next one names the end of every earlier boot that is not acknowledged', async () => {
    const home = folders.create();
    for (let boot = 1; boot <= 2; boot += 1) {
      const emitter = await openEmitter(home);
      emitter.record(draft('acme'));
      if (boot === 2) emitter.record(draft('other'));
      await emitter.close();
    }
    const { emitter: id } = listSpools(home).spools[0]!;
    const acks = createAckBook();
    const { key } = generateSigningKey();
    acks.put(ackOf(key, id, 1n, 'acme', 2n), 0);
    const emitter = await openEmitter(home, { acks });
    await emitter.close();
    const events = await spooled(home);
    const ends = (tenant: string, boot: bigint): unknown => {
      const last = events.findLast((event) => event.tenant === tenant && event.boot === boot);
      return { boot: boot.toString(), sequence: last?.sequence.toString(), digest: last?.digest };
    };
    const recovered = (tenant: string): unknown =>
      events.find((event) => event.tenant === tenant && event.boot === 3n && event.type === 'edict.heartbeat.v1')?.data[
        'recovered'
      ];
    expect(recovered('acme')).toEqual([ends('acme', 2n)]);
    expect(recovered('other')).toEqual([ends('other', 2n)]);
    expect(recovered('edict')).toEqual([ends('edict', 1n), ends('edict', 2n)]);
    expectWholeStreams(events);
  });

  it('says final for every tenant of the boot, and nothing after it', async () => {
    const home = folders.create();
    const emitter = await openEmitter(home);
    for (const tenant of ['a', 'b']) emitter.record(draft(tenant));
    await emitter.close();
    expect(() => emitter.record(draft('a'))).toThrow(failed);
    const events = await spooled(home);
    for (const tenant of ['a', 'b', 'edict'])
      expect(events.findLast((event) => event.tenant === tenant)?.data['state']).toBe('final');
    expect(events.at(-1)?.tenant).toBe('edict');
  });

  it('keeps its key over restarts, and two of them take two slots', async () => {
    const home = folders.create();
    const first = await openEmitter(home);
    const second = await openEmitter(home);
    expect([first.status().slot, second.status().slot]).toEqual(['0', '1']);
    const { emitter: id } = first.status();
    await first.close();
    const again = await openEmitter(home);
    expect(again.status()).toMatchObject({ slot: '0', emitter: id, boot: '2' });
    await again.close();
    await second.close();
  });

  it('ends the boot when the spool fails, denies, and begins a new boot that tells the end of the old one', async () => {
    const home = folders.create();
    let broken = false;
    let nowMs = 1_000_000;
    const fs: SpoolFs = {
      ...realSpoolFs,
      write: (...args) => {
        if (broken) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
        return realSpoolFs.write(...args);
      },
    };
    const emitter = await openEmitter(home, { fs, nowMs: () => nowMs });
    await emitter.record(draft('acme')).durable;
    broken = true;
    await expect(emitter.record(draft('acme')).durable).rejects.toMatchObject({ code: 'spool_failed' });
    expect(() => emitter.record(draft('acme'))).toThrow(failed);
    for (let i = 0; i < 3; i += 1) {
      nowMs += 20_000;
      await emitter.tick();
      expect(emitter.status().state).toBe('failed');
    }
    broken = false;
    nowMs += 20_000;
    await emitter.tick();
    expect(emitter.status()).toMatchObject({ state: 'running', failedBoots: 1 });
    await emitter.record(draft('acme')).durable;
    await emitter.close();
    const events = await spooled(home);
    expectWholeStreams(events);
    const old = events.findLast(({ tenant, boot }) => tenant === 'acme' && boot === 1n);
    expect(old?.sequence).toBe(1n);
    expect(events.find(({ tenant, boot }) => tenant === 'acme' && boot > 1n)?.data['recovered']).toEqual([
      { boot: '1', sequence: '1', digest: old?.digest },
    ]);
  });

  it('resolves at the level that is configured, or says in time that it was not reached', async () => {
    const memory = await openEmitter(folders.create(), { durability: 'memory' });
    expect(await memory.record(draft('a')).durable).toBe('memory');
    await memory.close();
    let syncs = true;
    const fs: SpoolFs = { ...realSpoolFs, sync: (fd, done) => (syncs ? realSpoolFs.sync(fd, done) : undefined) };
    const disk = await openEmitter(folders.create(), { durability: 'disk', durabilityTimeoutMs: 50, fs });
    expect(await disk.record(draft('a')).durable).toBe('disk');
    await disk.close();
    syncs = false;
    const broker = await openEmitter(folders.create(), { durability: 'broker', durabilityTimeoutMs: 50 });
    const late = broker.record(draft('a'));
    await expect(late.durable).rejects.toMatchObject({ code: 'event_not_durable' });
    const { durable, emitter: id } = broker.record(draft('a'));
    broker.confirmOnBroker('ff'.repeat(16), 100n);
    broker.confirmOnBroker(id, 3n);
    expect(await durable).toBe('broker');
    await broker.close();
  });

  it('answers disk in time with not durable when the disk does not come back', async () => {
    let release: (() => void) | undefined;
    const fs: SpoolFs = {
      ...realSpoolFs,
      sync: (_fd, done) => {
        release = () => done();
      },
    };
    const emitter = await openEmitter(folders.create(), { durability: 'disk', durabilityTimeoutMs: 30, fs });
    await expect(emitter.record(draft('a')).durable).rejects.toMatchObject({ code: 'event_not_durable' });
    const closing = emitter.close();
    release?.();
    await closing;
  });

  it.each([
    ['a lost spool', (home: string) => rmSync(slotPaths(home, '0').spool, { recursive: true })],
    ['a lost key', (home: string) => rmSync(slotPaths(home, '0').key)],
    ['a lost boot counter', (home: string) => rmSync(slotPaths(home, '0').boot)],
    [
      'a spool behind what was passed on',
      (home: string) =>
        saveCursor(slotPaths(home, '0').relayCursor, { emitter: listSpools(home).spools[0]!.emitter, next: 1000n }),
    ],
    [
      'a damaged segment',
      (home: string) => {
        const file = path.join(slotPaths(home, '0').spool, `${'0'.repeat(20)}.seg`);
        const bytes = readFileSync(file);
        bytes[5] = 0;
        writeFileSync(file, bytes);
      },
    ],
  ])('moves a slot with %s aside and begins a new key', async (_what, damage) => {
    const home = folders.create();
    const before = await openEmitter(home);
    const { emitter: id } = before.status();
    await before.record(draft('a')).durable;
    await before.close();
    damage(home);
    const after = await openEmitter(home);
    expect(after.status()).toMatchObject({ state: 'running', slot: '0', boot: '1', damagedSpools: 1 });
    expect(after.status().emitter).not.toBe(id);
    await after.close();
    expect(readdirSync(path.join(home, 'emitters'))).toHaveLength(2);
  });

  it('begins no boot while even the reserve is full, and does when acks gave room', async () => {
    const home = folders.create();
    const small = limits({ segmentBytes: 30_000, maxBytes: 100_000, reserveBytes: 20_000 });
    const first = await openEmitter(home, { limits: small });
    const fill = (): void => {
      for (;;) first.record(draft('a', `"x":"${'x'.repeat(1000)}"`));
    };
    expect(fill).toThrow(expect.objectContaining({ code: 'spool_full' }));
    for (let i = 0; i < 200; i += 1) first.recordLost('a', 1n, [[1n, 1n]]);
    await first.close();
    const acks = createAckBook();
    let nowMs = Date.now();
    const second = await openEmitter(home, { limits: small, acks, nowMs: () => nowMs });
    expect(second.status()).toMatchObject({ state: 'failed', failure: { code: 'spool_full' } });
    expect(() => second.record(draft('a'))).toThrow(expect.objectContaining({ code: 'spool_full' }));
    const { key } = generateSigningKey();
    const id = listSpools(home).spools[0]!.emitter;
    acks.put(ackOf(key, id, 1n, 'a', 10_000n), nowMs);
    acks.put(ackOf(key, id, 1n, 'edict', 10_000n), nowMs);
    nowMs += 20_000;
    await second.tick();
    expect(second.status()).toMatchObject({ state: 'running', boot: '2' });
    await second.record(draft('a')).durable;
    await second.close();
  });
});

describe('heartbeats', () => {
  it('break the silence of a tenant after 10 s, then every minute, once idle, then not until the next event', async () => {
    const home = folders.create();
    let nowMs = 1_700_000_000_000;
    const began = nowMs;
    const emitter = await openEmitter(home, { nowMs: () => nowMs });
    emitter.record(draft('acme', '', nowMs));
    const run = async (seconds: number): Promise<void> => {
      for (let i = 0; i < seconds; i += 1) {
        nowMs += 1000;
        await emitter.tick();
      }
    };
    await run(1000);
    emitter.record(draft('acme', '', nowMs));
    await run(15);
    await emitter.close();
    const events = await spooled(home);
    const beats = events
      .filter(({ tenant, type }) => tenant === 'acme' && type === 'edict.heartbeat.v1')
      .map(({ bytes, data }) => [
        (Date.parse((JSON.parse(bytes.toString()) as { time: string }).time) - began) / 1000,
        data['state'],
      ]);
    expect(beats).toEqual([
      ...[10, 70, 130, 190, 250, 310, 370, 430, 490, 550].map((second) => [second, 'active']),
      [600, 'idle'],
      [1010, 'active'],
      [1015, 'final'],
    ]);
    const own = events.filter(({ tenant, data }) => tenant === 'edict' && data['state'] === 'active');
    expect(own).toHaveLength(101);
  });
});

describe('refusals', () => {
  const refusal = { tenant: 'acme', caller: 'gw-1', code: 'request_invalid', status: 400, bytes: 10 } as const;

  it('are one event a caller and second, with an HMAC of the first body and never its bytes', async () => {
    const home = folders.create();
    let nowMs = 1_700_000_000_000;
    const emitter = await openEmitter(home, { nowMs: () => nowMs });
    for (let i = 0; i < 100_000; i += 1)
      emitter.countRefusal({ ...refusal, bytes: i, body: Buffer.from(`secret-body-${i}`) });
    emitter.countRefusal({ ...refusal, tenant: 'edict', caller: '-', code: 'unauthenticated', status: 401 });
    nowMs += 1000;
    await emitter.tick();
    await emitter.close();
    const events = (await spooled(home)).filter(({ type }) => type === 'edict.refusals.v1');
    expect(events.map(({ tenant, data }) => [tenant, data['caller'], data['refusals'], data['from']])).toEqual([
      [
        'acme',
        { id: 'gw-1' },
        [
          {
            code: 'request_invalid',
            status: 400,
            count: 100_000,
            largest_bytes: 99_999,
            first_body: expect.any(String),
          },
        ],
        '2023-11-14T22:13:20.000Z',
      ],
      [
        'edict',
        { id: '-' },
        [{ code: 'unauthenticated', status: 401, count: 1, largest_bytes: 10 }],
        expect.any(String),
      ],
    ]);
    expect(events.some(({ bytes }) => bytes.includes('secret-body'))).toBe(false);
  });

  it('that cannot be written or counted are a number in the next event of their tenant', async () => {
    const home = folders.create();
    let nowMs = 1_700_000_000_000;
    let broken = false;
    const fs: SpoolFs = {
      ...realSpoolFs,
      write: (...args) => {
        if (broken) throw new Error('broken');
        return realSpoolFs.write(...args);
      },
    };
    const emitter = await openEmitter(home, { nowMs: () => nowMs, fs });
    broken = true;
    await expect(emitter.record(draft('acme')).durable).rejects.toMatchObject({ code: 'spool_failed' });
    for (let i = 0; i < 5000; i += 1) emitter.countRefusal({ ...refusal, caller: `gw-${i}` });
    nowMs += 1000;
    await emitter.tick();
    expect(emitter.status().suppressed).toBe(5000);
    broken = false;
    nowMs += 20_000;
    await emitter.tick();
    emitter.record(draft('acme'));
    emitter.record(draft('acme'));
    await emitter.close();
    const events = (await spooled(home)).filter(({ tenant }) => tenant === 'acme');
    expect(events.map(({ data }) => data.suppressed)).toEqual([5000, undefined, undefined]);
  });
});

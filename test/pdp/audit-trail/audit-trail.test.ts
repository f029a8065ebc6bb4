import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { signAck, type Ack } from '../../../services/shared/contracts/ack.ts';
import { formatVkey, generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { homePaths } from '../../../services/shared/settings/home.ts';
import { writeAckFile } from '../../../services/shared/spool/ack-file.ts';
import { listSpools } from '../../../services/shared/spool/slots.ts';
import { createFolders } from '../../shared/spool/spool-fixture.ts';
import { draft, spooled } from './emitter-fixture.ts';
import { openTrail, settingsOf, until } from './trail-fixture.ts';

const folders = createFolders();
afterEach(() => folders.removeAll());

const { key } = generateSigningKey();
const trust = (home: string): void => {
  mkdirSync(homePaths(home).keys, { recursive: true });
  writeFileSync(homePaths(home).ackVkey, formatVkey('acks', key.publicKey));
};
const ack = (emitter: string, tenant: string, to: bigint, holes: Ack['holes'] = [], signer = key): Ack =>
  signAck(signer, {
    emitter,
    boot: '1',
    tenant,
    complete_to: to.toString(),
    holes,
    covered_to: to.toString(),
    origin: 'test/1',
    tree_size: '1',
  });
const small = { EDICT_SPOOL_MAX: '400KiB', EDICT_SPOOL_RESERVE: '80KiB', EDICT_SPOOL_TENANT_QUOTA: '300KiB' };

describe('the audit trail without Kafka', () => {
  it('frees the room of what the audit service acknowledges, and only by a key that is trusted', async () => {
    const home = folders.create();
    trust(home);
    const trail = await openTrail(home, { ...small, EDICT_SPOOL_KEEP: '1h' });
    const { emitter } = listSpools(home).spools[0]!;
    let last = 0n;
    const fill = (): void => {
      for (;;) last = BigInt(trail.record(draft('acme', `"x":"${'x'.repeat(1000)}"`)).sequence);
    };
    const full = expect.objectContaining({ code: 'spool_full' });
    expect(fill).toThrow(full);
    expect((await trail.checks.spool()).ok).toBe(true);
    const before = last;
    writeAckFile(home, emitter, [ack(emitter, 'acme', 10_000n, [], generateSigningKey().key)]);
    await until('the refused ack', () => trail.status().acks.refused === 1);
    expect(fill).toThrow(full);
    expect(last).toBe(before);
    writeAckFile(home, emitter, [ack(emitter, 'acme', last), ack(emitter, 'edict', 1n)]);
    await until('room', () => {
      try {
        last = BigInt(trail.record(draft('acme', `"x":"${'x'.repeat(1000)}"`)).sequence);
        return true;
      } catch {
        return false;
      }
    });
    expect(fill).toThrow(full);
    expect(last).toBeGreaterThan(before + 100n);
    expect(trail.status().emitter.spool?.givenUp).toBeGreaterThan(0);
    await trail.close();
  }, 30_000);

  it('names a hole that the spool cannot fill in a lost event, once', async () => {
    const home = folders.create();
    trust(home);
    const first = await openTrail(home);
    const { emitter } = listSpools(home).spools[0]!;
    first.record(draft('acme'));
    await first.close();
    let nowMs = Date.now();
    const trail = await openTrail(home, {}, { nowMs: () => nowMs });
    // Boot 1 has 1 and 2 (the final heartbeat) in the spool; 3 to 5 are nowhere.
    writeAckFile(home, emitter, [ack(emitter, 'acme', 0n, [['1', '5']])]);
    await until('the ack', () => trail.status().acks.lastHeardMs !== undefined);
    nowMs += 61_000;
    await until('the lost event', () => trail.status().lostEvents === 1);
    nowMs += 61_000;
    await trail.close();
    const lost = (await spooled(home)).filter(({ type }) => type === 'edict.lost.v1');
    expect(lost.map(({ tenant, data, reserve }) => [tenant, data['lost'], reserve])).toEqual([
      ['acme', [{ boot: '1', from: '3', to: '5' }], true],
    ]);
  }, 30_000);

  it('records activations, and those without room as soon as there is some', async () => {
    const home = folders.create();
    trust(home);
    const trail = await openTrail(home, { ...small, EDICT_SPOOL_KEEP: '0ms' });
    const { emitter } = listSpools(home).spools[0]!;
    const policy = { set: `sha256:${'a'.repeat(64)}`, bundles: [] };
    trail.recordActivation('acme', policy);
    const fill = (): void => {
      for (;;) trail.record(draft('acme', `"x":"${'x'.repeat(1000)}"`));
    };
    expect(fill).toThrow(expect.objectContaining({ code: 'spool_full' }));
    trail.recordActivation('acme', { ...policy, set: `sha256:${'b'.repeat(64)}${'y'.repeat(2000)}` });
    writeAckFile(home, emitter, [ack(emitter, 'acme', 10_000n), ack(emitter, 'edict', 10_000n)]);
    await until('room', () => (trail.status().emitter.spool?.segments ?? 9) < 4);
    await trail.close();
    const activations = (await spooled(home)).filter(({ type }) => type === 'edict.activation.v1');
    // The first one went with its covered segment.
    expect(activations.map(({ data }) => data['policy'])).toMatchObject([{ set: expect.stringContaining('bbb') }]);
  }, 30_000);

  it('believes another key once its file was read again, and keeps the old one when the file is bad', async () => {
    const home = folders.create();
    trust(home);
    const trail = await openTrail(home);
    const { emitter } = listSpools(home).spools[0]!;
    const { key: next } = generateSigningKey();
    writeAckFile(home, emitter, [ack(emitter, 'edict', 1n, [], next)]);
    await until('the refused ack', () => trail.status().acks.refused === 1);
    expect(trail.keyFiles).toEqual([homePaths(home).ackVkey]);
    writeFileSync(homePaths(home).ackVkey, 'no key');
    expect(() => trail.reload(settingsOf(home))).toThrow(expect.objectContaining({ code: 'settings_invalid' }));
    expect(trail.status().acks.lastHeardMs).toBeUndefined();
    writeFileSync(homePaths(home).ackVkey, formatVkey('acks', next.publicKey));
    trail.reload(settingsOf(home))();
    await until('the ack', () => trail.status().acks.lastHeardMs !== undefined);
    await trail.close();
  }, 30_000);

  it('refuses settings under which nothing could be recorded or acknowledged', async () => {
    const home = folders.create();
    const invalid = { code: 'settings_invalid' };
    expect(() => openTrail(home, { EDICT_SPOOL_RESERVE: '1GiB' })).toThrow(expect.objectContaining(invalid));
    const missing = path.join(home, 'no.vkey');
    await expect(openTrail(home, { EDICT_AUDIT_ACK_VKEY_FILES: missing })).rejects.toMatchObject(invalid);
  });
});

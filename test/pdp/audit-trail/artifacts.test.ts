import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Emitter } from '../../../services/pdp/audit-trail/emitter.ts';
import { createAckBook } from '../../../services/pdp/audit-trail/ack-book.ts';
import {
  ARTIFACT_MAX_BYTES,
  ARTIFACT_PART_BYTES,
  artifactPartOf,
} from '../../../services/shared/contracts/artifact.ts';
import { sha256Hex } from '../../../services/shared/contracts/bytes.ts';
import { signAck } from '../../../services/shared/contracts/ack.ts';
import { generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { slotPaths } from '../../../services/shared/spool/slots.ts';
import { createFolders, limits } from '../../shared/spool/spool-fixture.ts';
import { draft, openEmitter, spooled } from './emitter-fixture.ts';

const folders = createFolders();
afterEach(() => folders.removeAll());

const MIB = 1024 * 1024;
const ROOMY = limits({ segmentBytes: MIB, maxBytes: 64 * MIB, quotaBytes: () => 32 * MIB });

const artifactOf = (bytes: Buffer) =>
  ({ digest: `sha256:${sha256Hex(bytes)}`, mediaType: 'application/octet-stream', bytes }) as const;

const waitingFor = ({ status }: Emitter): number => status().artifacts.waiting;
const drain = async (emitter: Emitter, ticks = 50): Promise<void> => {
  for (let n = 0; n < ticks && waitingFor(emitter) > 0; n += 1) {
    await emitter.tick();
    await sleep(5);
  }
};

/** Parts by boot, tenant and digest, put together. */
const received = async (home: string): Promise<Readonly<Record<string, string>>> => {
  const contents = new Map<string, Buffer[]>();
  for (const { type, data, tenant, boot, bytes, reserve } of await spooled(home)) {
    if (type !== 'edict.artifact.v1') continue;
    expect(bytes.length).toBeLessThanOrEqual(900_000);
    expect(reserve).toBe(false);
    const read = artifactPartOf(data)!;
    const key = `${boot} ${tenant} ${read.part.digest.slice(7, 15)} ${read.part.parts}`;
    const list = contents.get(key) ?? [];
    contents.set(key, list);
    expect(read.part.part).toBe(list.length + 1);
    list.push(read.content);
  }
  return Object.fromEntries([...contents].map(([key, parts]) => [key, sha256Hex(Buffer.concat(parts)).slice(0, 8)]));
};
const shortOf = ({ digest }: { readonly digest: string }): string => digest.slice(7, 15);

describe('artifacts', () => {
  it('go once for each tenant and digest, in parts, also after a restart', async () => {
    const home = folders.create();
    const [large, small] = [artifactOf(randomBytes(2 * ARTIFACT_PART_BYTES + 1)), artifactOf(Buffer.from('{"a":1}'))];
    const emitter = await openEmitter(home, { limits: ROOMY });
    for (const artifact of [large, large, small]) emitter.sendArtifact('acme', artifact);
    emitter.sendArtifact('globex', small);
    expect(emitter.status().artifacts).toEqual({
      waiting: 3,
      waitingBytes: large.bytes.length + 2 * small.bytes.length,
      heldBytes: large.bytes.length + small.bytes.length,
      withoutRoom: 0,
      dropped: 0,
    });
    await drain(emitter);
    const expected = {
      [`1 acme ${shortOf(large)} 3`]: shortOf(large),
      [`1 acme ${shortOf(small)} 1`]: shortOf(small),
      [`1 globex ${shortOf(small)} 1`]: shortOf(small),
    };
    emitter.sendArtifact('acme', large);
    expect(emitter.status().artifacts).toMatchObject({ waiting: 0, heldBytes: 0 });
    await drain(emitter);
    await emitter.close();
    expect(await received(home)).toEqual(expected);

    const again = await openEmitter(home, { limits: ROOMY });
    const other = artifactOf(Buffer.from('{"a":2}'));
    for (const artifact of [large, small, other]) again.sendArtifact('acme', artifact);
    await drain(again);
    await again.close();
    expect(await received(home)).toEqual({ ...expected, [`2 acme ${shortOf(other)} 1`]: shortOf(other) });
  });

  it('of a state go at once, its root last, and not again when the root went', async () => {
    const home = folders.create();
    const nodes = ['one', 'two', 'root'].map((text) => {
      const { digest, mediaType, bytes } = artifactOf(Buffer.from(text));
      return { digest, mediaType, size: bytes.length, bytes: () => bytes };
    });
    const [one, two, root] = nodes;
    const other = artifactOf(Buffer.from('other root'));
    const another = { ...other, size: other.bytes.length, bytes: () => other.bytes };
    const first = await openEmitter(home, { limits: ROOMY });
    first.sendState('acme', root!.digest, () => nodes);
    // Before any tick: another state may come before it.
    const sent = nodes.map((node) => `1 acme ${shortOf(node)} 1`);
    expect(Object.keys(await received(home))).toEqual(sent);
    await drain(first);
    await first.close();

    const second = await openEmitter(home, { limits: ROOMY });
    second.sendState('acme', root!.digest, () => nodes);
    expect(second.status().artifacts).toMatchObject({ waiting: 0, dropped: 0 });
    // Only roots are remembered.
    second.sendState('acme', another.digest, () => [one!, two!, another]);
    await second.close();
    expect(Object.keys(await received(home)).slice(3)).toEqual(
      [one!, two!, another].map((node) => `2 acme ${shortOf(node)} 1`),
    );
  });

  it('of states that wait go at a clean stop', async () => {
    const home = folders.create();
    const nodes = Array.from({ length: 40 }, (_, n) => {
      const { digest, mediaType, bytes } = artifactOf(Buffer.from(`node ${n}`));
      return { digest, mediaType, size: bytes.length, bytes: () => bytes };
    });
    const emitter = await openEmitter(home, { limits: ROOMY });
    emitter.sendState('acme', nodes.at(-1)!.digest, () => nodes);
    expect(emitter.status().artifacts.waitingBytes).toBeGreaterThan(0);
    await emitter.close();
    expect(Object.keys(await received(home))).toHaveLength(40);
  });

  it('that were not sent to their end begin anew in the next boot', async () => {
    const home = folders.create();
    const artifact = artifactOf(randomBytes(6 * ARTIFACT_PART_BYTES));
    const first = await openEmitter(home, { limits: ROOMY });
    first.sendArtifact('acme', artifact);
    await first.tick();
    await first.close();
    const second = await openEmitter(home, { limits: ROOMY });
    second.sendArtifact('acme', artifact);
    await drain(second);
    await second.close();
    const found = await received(home);
    expect(Object.keys(found)).toEqual([`1 acme ${shortOf(artifact)} 6`, `2 acme ${shortOf(artifact)} 6`]);
    expect(found[`2 acme ${shortOf(artifact)} 6`]).toBe(shortOf(artifact));
    expect(found[`1 acme ${shortOf(artifact)} 6`]).not.toBe(shortOf(artifact));
  });

  it('are sent again where what is written down of it is gone, torn, or of another emitter', async () => {
    const home = folders.create();
    const artifact = artifactOf(Buffer.from('[]'));
    const file = slotPaths(home, '0').artifacts;
    const send = async (): Promise<void> => {
      const emitter = await openEmitter(home, { limits: ROOMY });
      emitter.sendArtifact('acme', artifact);
      await drain(emitter);
      await emitter.close();
    };
    await send();
    const whole = readFileSync(file, 'utf8');
    rmSync(file);
    await send();
    writeFileSync(file, whole.slice(0, 40));
    await send();
    writeFileSync(file, whole.replace(/"emitter":"[0-9a-f]{4}/, '"emitter":"0000'));
    await send();
    await send();
    expect(Object.keys(await received(home)).map((key) => key.split(' ')[0])).toEqual(['1', '2', '3', '4']);
  });

  it('wait while there is no room to spare, leave room to decisions, and go on when acks give room', async () => {
    const home = folders.create();
    const acks = createAckBook();
    const { key } = generateSigningKey();
    const quota = 2 * MIB;
    const small = { ...ROOMY, quotaBytes: () => quota };
    const emitter = await openEmitter(home, { limits: small, acks });
    const artifact = artifactOf(randomBytes(8 * ARTIFACT_PART_BYTES));
    const other = artifactOf(Buffer.from('other'));
    emitter.sendArtifact('acme', artifact);
    emitter.sendArtifact('globex', other);
    for (let n = 0; n < 10; n += 1) {
      await emitter.tick();
      await sleep(5);
    }
    expect(emitter.status().artifacts).toMatchObject({ waiting: 1, withoutRoom: 1 });
    // A quarter of the quota is kept: decisions of the tenant have it.
    const decision = draft('acme', `"answer":{"text":"${'x'.repeat(100_000)}"}`);
    for (let n = 0; n < 4; n += 1) await emitter.record(decision).durable;
    const { emitter: id = '' } = emitter.status();
    for (let rounds = 0; rounds < 20 && waitingFor(emitter) > 0; rounds += 1) {
      const last = (await spooled(home))
        .filter(({ tenant }) => tenant === 'acme')
        .at(-1)!
        .sequence.toString();
      const ack = { emitter: id, boot: '1', tenant: 'acme', complete_to: last, holes: [], covered_to: last };
      acks.put(signAck(key, { ...ack, origin: 'test/1', tree_size: '1' }), Date.now());
      emitter.applyAcks();
      await emitter.tick();
      await sleep(5);
    }
    expect(emitter.status().artifacts).toMatchObject({ waiting: 0, withoutRoom: 0 });
    await emitter.close();
    expect(await received(home)).toEqual({
      [`1 acme ${shortOf(artifact)} 8`]: shortOf(artifact),
      [`1 globex ${shortOf(other)} 1`]: shortOf(other),
    });
  });

  it('of more tenants than a tick looks at all wait, and none is lost', async () => {
    const emitter = await openEmitter(folders.create(), { limits: ROOMY });
    const artifact = artifactOf(Buffer.from('{}'));
    for (let n = 0; n < 1_040; n += 1) emitter.sendArtifact(`tenant-${n}`, artifact);
    expect(emitter.status().artifacts).toMatchObject({ waiting: 1_040, heldBytes: 2, dropped: 0 });
    await drain(emitter, 2_000);
    expect(emitter.status().artifacts).toMatchObject({ waiting: 0, heldBytes: 0, dropped: 0 });
    await emitter.close();
  }, 60_000);

  it('do not keep more bytes than the largest has: the rest is asked for in its turn', async () => {
    const home = folders.create();
    const quotaBytes = (tenant: string): number => (tenant === 'full' ? 1_000 : 32 * MIB);
    const emitter = await openEmitter(home, { limits: { ...ROOMY, quotaBytes } });
    for (let n = 0; n < 5; n += 1) emitter.sendArtifact('full', artifactOf(Buffer.alloc(20 * MIB, n)));
    expect(emitter.status().artifacts).toMatchObject({ waiting: 5, heldBytes: 60 * MIB, dropped: 0 });
    const [large, gone] = [artifactOf(randomBytes(5 * MIB)), artifactOf(randomBytes(6 * MIB))];
    emitter.sendArtifact('acme', large, () => large.bytes);
    emitter.sendArtifact('acme', gone, () => undefined);
    expect(emitter.status().artifacts).toMatchObject({ waiting: 7, heldBytes: 60 * MIB, dropped: 0 });
    for (let n = 0; n < 100 && waitingFor(emitter) > 5; n += 1) {
      await emitter.tick();
      await sleep(5);
    }
    expect(emitter.status().artifacts).toMatchObject({ waiting: 5, withoutRoom: 5, heldBytes: 60 * MIB, dropped: 1 });
    await emitter.close();
    expect(await received(home)).toEqual({ [`1 acme ${shortOf(large)} 20`]: shortOf(large) });
  }, 60_000);

  it('that are too large are told and not sent', async () => {
    const emitter = await openEmitter(folders.create(), { limits: ROOMY });
    emitter.sendArtifact('acme', {
      digest: `sha256:${'0'.repeat(64)}`,
      mediaType: 'application/octet-stream',
      bytes: Buffer.alloc(ARTIFACT_MAX_BYTES + 1),
    });
    expect(emitter.status().artifacts).toMatchObject({ waiting: 0, dropped: 1 });
    await emitter.close();
  });
});

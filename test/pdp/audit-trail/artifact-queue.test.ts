import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import {
  createArtifactQueue,
  type ArtifactQueue,
  type NodesOfState,
} from '../../../services/pdp/audit-trail/artifacts.ts';
import type { Boot } from '../../../services/pdp/audit-trail/boot.ts';
import { unarchivedNodes } from '../../../services/pdp/core/data-nodes.ts';
import { applyChange, NOTHING_PUSHED, type PushedData } from '../../../services/pdp/core/pushed-data.ts';
import { sha256Hex } from '../../../services/shared/contracts/bytes.ts';

const folder = mkdtempSync(join(tmpdir(), 'edict-queue-'));
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));

const MIB = 1024 * 1024;
const digestOf = (text: string): string => `sha256:${sha256Hex(Buffer.from(text))}`;

/** A boot that keeps what is appended, where `room` has room: bytes by tenant. */
const bootOf = (emitter: string, room: (tenant: string, bytes: number) => boolean) => {
  const appended: string[] = [];
  let number = 0n;
  const boot = {
    identity: { emitter },
    writer: {
      room: (tenant: string, bytes: number) => (room(tenant, bytes) ? 'ok' : 'quota'),
      whenSynced: () => Promise.resolve(),
    },
    append(tenant: string, _head: unknown, members: string) {
      const { artifact } = JSON.parse(`{${members}}`) as { artifact: { digest: string } };
      appended.push(`${tenant} ${artifact.digest}`);
      return { number: (number += 1n) };
    },
  } as unknown as Boot;
  return { boot, appended };
};

let files = 0;
const queueOf = (): { queue: ArtifactQueue; file: string } => {
  const file = join(folder, `${(files += 1)}.json`);
  const queue = createArtifactQueue({
    file: () => file,
    keepFreeBytes: () => 0,
    nowMs: () => 1,
    logger: pino({ enabled: false }),
  });
  return { queue, file };
};

const drain = async (queue: ArtifactQueue, boot: Boot, most = 2_000): Promise<void> => {
  for (let n = 0; n < most && (n % 50 > 0 || queue.status().waiting > 0); n += 1) await queue.send(() => boot);
};

/** A state of one node of so many bytes, told from others by `name`. */
const single = (name: string, size = 10): { root: string; nodes: NodesOfState } => {
  const text = name.padEnd(size, ' ');
  const digest = digestOf(text);
  return { root: digest, nodes: () => [{ digest, mediaType: 'a/b', size, bytes: () => Buffer.from(text) }] };
};

const people = (count: number): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`user-${n}`, { grade: 1 }]));

/** Pushes for a tenant, as a PDP does. */
const pusher = (queue: ArtifactQueue, tenant: string) => {
  let data: PushedData = NOTHING_PUSHED;
  let revision = 0;
  return {
    push: (path: readonly string[], value: unknown): void => {
      data = applyChange(data, { op: 'put', path, value }, (revision += 1), 64 * MIB);
      const { document } = data;
      queue.addState(tenant, data.identity!.digest, function* (given) {
        for (const { digest, bytes: size, text } of unarchivedNodes(document, given))
          yield { digest, mediaType: 'a/b', size, bytes: () => Buffer.from(text()) };
      });
    },
    all: () => [...unarchivedNodes(data.document, new WeakSet())].map(({ digest }) => `${tenant} ${digest}`),
  };
};

describe('the queue of artifacts', () => {
  it('asks for all nodes again after a state could not be held', async () => {
    const { queue } = queueOf();
    let full = true;
    const { boot, appended } = bootOf('one', () => !full);
    // 65,536 artifacts wait, of others.
    for (let n = 0; n < 65_536; n += 1) {
      const { root, nodes } = single(`${n}`);
      queue.addState(`other-${n % 100}`, root, nodes);
    }
    const { push, all } = pusher(queue, 'acme');
    push(['users'], people(3_000));
    expect(queue.status()).toMatchObject({ waiting: 65_536, dropped: 1 });
    full = false;
    await drain(queue, boot, 20_000);
    push(['users', 'user-1', 'grade'], 2);
    await drain(queue, boot);
    expect(appended.filter((key) => key.startsWith('acme')).sort()).toEqual(all().sort());
    expect(appended.at(-1)).toBe(all().at(-1));
  }, 60_000);

  it('sends the newest state whole to another emitter', async () => {
    const { queue } = queueOf();
    const [first, second] = [bootOf('one', () => true), bootOf('two', () => true)];
    const { push, all } = pusher(queue, 'acme');
    push(['users'], people(3_000));
    await drain(queue, first.boot);
    await queue.send(() => second.boot);
    await drain(queue, second.boot);
    push(['users', 'user-1', 'grade'], 2);
    await drain(queue, second.boot);
    expect(all().every((key) => second.appended.includes(key))).toBe(true);
  });

  it('remembers other artifacts apart from the roots of states', async () => {
    const { queue, file } = queueOf();
    const { boot, appended } = bootOf('one', () => true);
    const bundle = { digest: digestOf('bundle'), mediaType: 'a/b', bytes: Buffer.from('bundle') };
    for (let n = 0; n < 100; n += 1) {
      queue.add('acme', bundle);
      const { root, nodes } = single(`state ${n}`);
      queue.addState('acme', root, nodes);
      await drain(queue, boot);
    }
    expect(appended.filter((key) => key.endsWith(bundle.digest))).toHaveLength(1);
    await queue.close();
    const { sent, states } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Record<string, string[]>>;
    expect(sent!['acme']).toEqual([bundle.digest]);
    expect(states!['acme']).toHaveLength(64);
  });

  it('lets no tenant without room hold up others', async () => {
    const { queue } = queueOf();
    const { boot, appended } = bootOf('one', (tenant) => tenant !== 'full');
    for (let n = 0; n < 3_000; n += 1) {
      const { root, nodes } = single(`${n}`);
      queue.addState('full', root, nodes);
    }
    const [at, later] = [single('at once'), single('later')];
    queue.addState('acme', at.root, at.nodes);
    queue.sendStates(boot, 96 * 1024);
    expect(appended).toEqual([`acme ${at.root}`]);
    queue.addState('acme', later.root, later.nodes);
    await queue.send(() => boot);
    expect(appended).toEqual([`acme ${at.root}`, `acme ${later.root}`]);
  });

  it('holds later states back behind one without room', async () => {
    const { queue } = queueOf();
    let most = 20_000;
    const { boot, appended } = bootOf('one', (_, bytes) => bytes < most);
    const [large, small] = [single('large', 100_000), single('small')];
    queue.addState('acme', large.root, large.nodes);
    queue.addState('acme', small.root, small.nodes);
    queue.sendStates(boot, 96 * 1024, 'acme');
    await queue.send(() => boot);
    expect(appended).toEqual([]);
    most = MIB;
    await drain(queue, boot);
    expect(appended).toEqual([`acme ${large.root}`, `acme ${small.root}`]);
  });

  it('bounds what waiting states keep: older ones go whole, and the newest is sent with all of its nodes', async () => {
    const { queue } = queueOf();
    let full = true;
    const { boot, appended } = bootOf('one', () => !full);
    const { push, all } = pusher(queue, 'acme');
    push(['users'], people(3_000));
    const list = Array.from({ length: 100 }, () => 'x'.repeat(100_000));
    for (let n = 0; n < 10; n += 1) {
      push(['list'], [n, ...list]);
      expect(queue.status().heldBytes).toBeLessThanOrEqual(64 * MIB);
    }
    expect(queue.status().dropped).toBeGreaterThan(0);
    full = false;
    await drain(queue, boot);
    expect(all().every((key) => appended.includes(key))).toBe(true);
    expect(appended.at(-1)).toBe(all().at(-1));
  }, 60_000);
});

import path from 'node:path';
import { createAckBook } from '../../../services/pdp/audit-trail/ack-book.ts';
import { startSlotRelay } from '../../../services/pdp/audit-trail/slot-relay.ts';
import { signAck } from '../../../services/shared/contracts/ack.ts';
import { generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import type { OutgoingMessage, Sender } from '../../../services/shared/kafka/sender.ts';
import { createFolders, EMITTER, openWriter, record } from '../../shared/spool/spool-fixture.ts';
import { logger } from './emitter-fixture.ts';
import { until } from './trail-fixture.ts';

const folders = createFolders();
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  folders.removeAll();
});

describe('the relay of one slot', () => {
  it('sends a hole again from every segment, also when one is given up meanwhile', async () => {
    const directory = folders.create();
    const writer = openWriter(directory);
    for (let n = 1n; n <= 200n; n += 1n) writer.append(record('acme', n, 'x'.repeat(1_000)));
    await writer.whenWritten(199n);
    const live = [...writer.segments()];
    expect(live.length).toBeGreaterThanOrEqual(3);
    const sent: bigint[] = [];
    let onSend: () => void = () => undefined;
    const sender: Sender = {
      partitions: () => Promise.resolve(1),
      send: (_partition, messages: readonly OutgoingMessage[]) => {
        sent.push(...messages.map(({ headers }) => BigInt(headers?.['sequence'] ?? 0)));
        onSend();
        return Promise.resolve();
      },
      status: () => ({ connected: true, rebuilt: 0 }),
      close: () => Promise.resolve(),
    };
    const acks = createAckBook();
    const relay = startSlotRelay({
      spool: { slot: '0', emitter: EMITTER, directory, movedAside: false },
      cursorFile: path.join(folders.create(), 'cursor'),
      sender,
      acks,
      timings: { holeMs: 0, silenceMs: 60_000, maxPauseMs: 60_000 },
      nowMs: Date.now,
      logger,
      segmentsOf: () => live,
      onConfirmed: () => undefined,
    });
    closers.push(
      () => relay.close(),
      () => writer.close(),
    );
    await until('everything', () => sent.length === 200);
    sent.length = 0;
    onSend = () => {
      live.shift();
      onSend = () => undefined;
    };
    const { key } = generateSigningKey();
    const ack = signAck(key, {
      emitter: EMITTER,
      boot: '1',
      tenant: 'acme',
      complete_to: '0',
      holes: [['1', '200']],
      covered_to: '0',
      origin: 'o',
      tree_size: '1',
    });
    acks.put(ack, Date.now());
    await until('the end of it', () => sent.includes(200n));
    expect(sent).toEqual(Array.from({ length: 200 }, (_, n) => BigInt(n + 1)));
  }, 30_000);
});

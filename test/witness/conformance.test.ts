/** One table of requests for our witness and for torchwood's litewitness: the same answers, cosignatures that verify. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startWitness } from '../../services/witness/main.ts';
import { formatAddCheckpoint, parseTreeSizeBody } from '../../services/shared/tlog/add-checkpoint.ts';
import { openCosignatures, parseWitnessVkey } from '../../services/shared/tlog/cosignature.ts';
import { silent } from '../audit/ingest/fixtures.ts';
import { startLitewitness } from '../support/torchwood.ts';
import { createTestLog, type TestLog } from './test-log.ts';

interface Witness {
  readonly url: string;
  readonly vkey: string;
  close(): Promise<void>;
}

interface Step {
  readonly body: Buffer | string;
  readonly status: number;
  /** In the body of a 409. */
  readonly size?: bigint;
}

const step = (body: Buffer | string, status: number, size?: bigint): Step => ({
  body,
  status,
  ...(size === undefined ? {} : { size }),
});
const HASH = `${Buffer.alloc(32, 9).toString('base64')}\n`;
const replaced = (bytes: Buffer, from: string | RegExp, to: string): string => bytes.toString('utf8').replace(from, to);

/** Each case has a log of its own; its steps are sent in order. */
const CASES: readonly (readonly [name: string, steps: (log: TestLog) => Promise<readonly Step[]>])[] = [
  [
    'cosigns what only grows, and the same tree again',
    async ({ request }) => [
      step(await request(0, 1), 200),
      step(await request(1, 1), 200),
      step(await request(1, 5), 200),
      step(await request(5, 8), 200),
      step(await request(8, 200), 200),
      step(await request(200, 200), 200),
    ],
  ],
  [
    'says the size that it has to whoever names another',
    async ({ request }) => [
      step(await request(3, 5), 409, 0n),
      step(await request(0, 5), 200),
      step(await request(0, 5), 409, 5n),
      step(await request(0, 8), 409, 5n),
      step(await request(3, 5), 409, 5n),
      step(await request(6, 8), 409, 5n),
    ],
  ],
  [
    'does not go back',
    async ({ request, note }) => [
      step(await request(0, 8), 200),
      step(await request(3, 5), 409, 8n),
      step(formatAddCheckpoint({ oldSize: 8n, proof: [], checkpoint: note(5) }), 400),
      step(await request(8, 9), 200),
    ],
  ],
  [
    'refuses a tree that does not continue the one it has',
    async ({ request, proof, note }) => [
      step(await request(0, 5), 200),
      step(await request(5, 8, 'b'), 422),
      step(formatAddCheckpoint({ oldSize: 5n, proof: [], checkpoint: note(8) }), 422),
      step(formatAddCheckpoint({ oldSize: 5n, proof: await proof(3, 8), checkpoint: note(8) }), 422),
      step(
        formatAddCheckpoint({ oldSize: 5n, proof: [...(await proof(5, 8)), Buffer.alloc(32)], checkpoint: note(8) }),
        422,
      ),
      step(await request(5, 8), 200),
    ],
  ],
  [
    'refuses another tree of the same size',
    async ({ request }) => [
      step(await request(0, 5), 200),
      step(await request(5, 5, 'b'), 422),
      step(await request(5, 5), 200),
    ],
  ],
  ['cosigns an empty tree', async ({ request }) => [step(await request(0, 0), 200), step(await request(0, 2), 200)]],
  [
    'knows the logs that it was given only',
    async ({ request, origin }) => [
      step(await createTestLog('stranger.example/log').request(0, 1), 404),
      step(await createTestLog(origin).request(0, 1), 403),
      step(replaced(await request(0, 1), /\n$/, `\n— ${origin} AAAAAAECAwQ=\n`), 200),
    ],
  ],
  [
    'takes signatures for what they sign',
    async ({ request, note }) => [
      step(replaced(await request(0, 5), '\n5\n', '\n6\n'), 403),
      step(replaced(await request(0, 5), /— .*\n$/, '— other.example/log AAAAAAECAwQ=\n'), 403),
      step(Buffer.concat([Buffer.from('old 0\n\n'), note(5)]), 200),
    ],
  ],
  [
    'reads requests strictly',
    async ({ request, note }) => [
      step('', 400),
      step('old 0\n', 400),
      step(note(5), 400),
      step(replaced(await request(0, 5), 'old 0', 'size 0'), 400),
      step(replaced(await request(0, 5), 'old 0', 'old -1'), 400),
      step(replaced(await request(0, 5), 'old 0', 'old x'), 400),
      step(replaced(await request(0, 5), 'old 0\n', 'old 0\nAAAA\n'), 400),
      step(replaced(await request(0, 5), 'old 0\n', `old 0\n${HASH.repeat(64)}`), 400),
      step(await request(0, 5), 200),
    ],
  ],
];

const logs = CASES.map((_, n) => createTestLog(`log.example/${n}`));

const startOurs = async (): Promise<Witness> => {
  const folder = mkdtempSync(path.join(tmpdir(), 'edict-witness-'));
  const vkeys = path.join(folder, 'logs.vkey');
  writeFileSync(vkeys, logs.map(({ vkey }) => `${vkey}\n`).join(''));
  const options = { logFiles: [vkeys], folder: path.join(folder, 'state'), listen: '127.0.0.1:0' };
  const witness = await startWitness(options, { logger: silent });
  return {
    url: witness.url,
    vkey: witness.vkey,
    close: async () => {
      await witness.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

describe.each([
  ['edict witness', startOurs],
  ['litewitness', () => startLitewitness(logs.map(({ vkey }) => vkey))],
] as const)('%s', (_program, start) => {
  let witness: Witness;
  beforeAll(async () => {
    witness = await start();
  }, 60_000);
  afterAll(() => witness.close());

  it.each(CASES.map(([name, steps], n) => [name, steps, logs[n]!] as const))('%s', async (_name, steps, log) => {
    for (const [n, { body, status, size }] of (await steps(log)).entries()) {
      const sentS = Math.floor(Date.now() / 1_000);
      const response = await fetch(`${witness.url}/add-checkpoint`, {
        method: 'POST',
        body: new Uint8Array(Buffer.from(body)),
      });
      const answer = await response.text();
      expect({ n, status: response.status, answer }).toMatchObject({ n, status });
      if (status === 409) {
        expect(response.headers.get('content-type')).toBe('text/x.tlog.size');
        expect(parseTreeSizeBody(answer)).toBe(size);
      }
      if (status !== 200) continue;
      const whole = Buffer.from(body).toString('utf8');
      const note = whole.slice(whole.indexOf('\n\n') + 2);
      const found = openCosignatures(Buffer.from(note + answer), [parseWitnessVkey(witness.vkey)]);
      expect(found).toHaveLength(1);
      expect(found![0]!.line).toBe(answer);
      expect(found![0]!.timeS).toBeGreaterThanOrEqual(sentS);
      expect(found![0]!.timeS).toBeLessThanOrEqual(Math.ceil(Date.now() / 1_000));
    }
  });
});

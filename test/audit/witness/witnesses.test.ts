import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMetaReader } from '../../../services/audit/postgres/read-meta.ts';
import { createSignerMetrics } from '../../../services/audit/signer/metrics.ts';
import { createWitnessMetrics } from '../../../services/audit/witness/metrics.ts';
import { startWitnesses, type Witnesses } from '../../../services/audit/witness/witnesses.ts';
import { generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { listen, type ListeningServer } from '../../../services/shared/runtime/http-server.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { parseAddCheckpoint } from '../../../services/shared/tlog/add-checkpoint.ts';
import {
  formatWitnessVkey,
  openCosignatures,
  parseWitnessVkey,
  signCosignature,
} from '../../../services/shared/tlog/cosignature.ts';
import { parsePolicy, type Policy } from '../../../services/shared/tlog/policy.ts';
import { parseNote } from '../../../services/shared/tlog/signed-note.ts';
import { startWitness, type RunningWitness } from '../../../services/witness/main.ts';
import { startLitewitness, type Litewitness } from '../../support/torchwood.ts';
import { silent } from '../ingest/fixtures.ts';
import { newDecision } from '../postgres/ledger-fixture.ts';
import { openSigningFixture, type SigningFixture } from '../signer/signing-fixture.ts';

const nowS = (): number => Math.floor(Date.now() / 1_000);

describe('witnesses of the meta log', () => {
  let fixture: SigningFixture;
  let own: RunningWitness;
  let lite: Litewitness;
  let server: ListeningServer;
  /** What the hostile witness does with a request; its key is a real one. */
  let misbehave: (text: string, request: IncomingMessage, response: ServerResponse) => void;
  const hostile = generateSigningKey().key;
  const other = generateSigningKey().key;
  const hostileVkey = formatWitnessVkey('hostile.example/w', hostile.publicKey);
  const registry = createRegistry({ service: 'signer', processMetrics: false });
  const metrics = createWitnessMetrics(registry, createSignerMetrics(registry).alarms);
  let running: Witnesses | undefined;

  beforeAll(async () => {
    fixture = await openSigningFixture();
    const logFile = path.join(fixture.ledger.folder, '@meta-1.vkey');
    own = await startWitness(
      {
        logFiles: [logFile],
        folder: path.join(fixture.ledger.folder, 'witness'),
        listen: '127.0.0.1:0',
        name: 'own.example/w',
      },
      { logger: silent },
    );
    const [meta] = await fixture.ledger.as('signer').query<{ vkey: string }>('select vkey from edict.meta_log', []);
    lite = await startLitewitness([meta!.vkey]);
    const http = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const asked = parseAddCheckpoint(Buffer.concat(chunks));
        misbehave(parseNote(asked!.checkpoint)!.text, request, response);
      });
    });
    server = await listen(http, { host: '127.0.0.1', port: 0 });
  }, 120_000);
  afterEach(async () => {
    await running?.close();
    running = undefined;
  });
  afterAll(async () => {
    await server.close();
    await lite.close();
    await own.close();
    await fixture.ledger.close();
  });

  const grow = async (): Promise<bigint> => {
    const { ledger, sealer, newSigner, metaCheckpoints } = fixture;
    await ledger.write(({ append }) => append(ledger.log, [newDecision()]));
    await sealer.sealAll();
    await newSigner().signAll();
    return (await metaCheckpoints()).at(-1)?.size ?? 0n;
  };

  const policyOf = (...lines: readonly string[]): Policy => {
    const policy = parsePolicy(Buffer.from(`${lines.join('\n')}\n`));
    if ('problem' in policy) throw new Error(policy.problem);
    return policy;
  };

  const start = (policy: Policy, timeoutMs = 20_000, nowMs = Date.now): Witnesses => {
    const { store } = fixture;
    running = startWitnesses({ policy, store, intervalMs: 20, timeoutMs, logger: silent, metrics, nowMs });
    return running;
  };

  const until = async (isDone: () => boolean | Promise<boolean>): Promise<void> => {
    for (const deadline = Date.now() + 60_000; !(await isDone()); await sleep(20))
      if (Date.now() > deadline) throw new Error(`did not happen: ${JSON.stringify(running?.states())}`);
  };

  it('ours and litewitness cosign each checkpoint; what they say is stored once and served behind the note', async () => {
    const witnesses = start(
      policyOf(
        `witness own ${own.vkey} ${own.url}`,
        `witness lite ${lite.vkey} ${lite.url}/`,
        'group both all own lite',
        'quorum both',
      ),
    );
    for (let n = 0; n < 3; n += 1) {
      const size = await grow();
      await until(() => witnesses.quorumSize() === size);
      const published = await createMetaReader(fixture.ledger.as('reader_all')).published(1);
      expect(published?.size).toBe(size);
      const cosignatures = openCosignatures(published!.note, [own.vkey, lite.vkey].map(parseWitnessVkey));
      expect(cosignatures?.map(({ witness }) => witness.name).sort()).toEqual([
        'litewitness.example/w1',
        'own.example/w',
      ]);
      for (const { timeS } of cosignatures!) expect(Math.abs(timeS - nowS())).toBeLessThan(120);
    }
    expect(witnesses.trouble()).toBeUndefined();
    expect(witnesses.states()).toMatchObject([{ failure: null }, { failure: null }]);
    expect(await fixture.ledger.as('signer').query('select source from edict.meta_attestation', [])).toHaveLength(6);
    expect(await registry.metrics()).toMatch(
      /edict_witness_cosigned_size\{witness="own\.example\/w\+[0-9a-f]{8}"[^}]*\} 4/,
    );
  }, 120_000);

  it('a signer that starts anew learns from the witness which proof it wants', async () => {
    const size = await grow();
    const witnesses = start(policyOf(`witness own ${own.vkey} ${own.url}`, 'quorum own'));
    await until(() => witnesses.quorumSize() === size);
    expect(witnesses.states()).toMatchObject([{ size: String(size), failure: null }]);
  });

  const answer = (response: ServerResponse, status: number, body: string | Buffer, type = 'text/plain'): void => {
    response.writeHead(status, { 'content-type': type }).end(body);
  };
  const sign = (text: string, timeS: number, key = hostile): string =>
    signCosignature(text, timeS, key, parseWitnessVkey(hostileVkey));
  let replayed: string | undefined;

  it.each<readonly [string, RegExp, typeof misbehave]>([
    ['takes a request and says nothing', /in time/, () => undefined],
    [
      'begins an answer and does not end it',
      /in time/,
      (_text, _request, response) => void response.writeHead(200).write('— '),
    ],
    [
      'answers without end',
      /too much/,
      (_text, _request, response) => answer(response, 200, Buffer.alloc(32 * 1024 * 1024, 97)),
    ],
    [
      'signs with another key',
      /no cosignature/,
      (text, _request, response) => answer(response, 200, sign(text, nowS(), other)),
    ],
    [
      'signs as somebody else',
      /no cosignature/,
      (text, _request, response) =>
        answer(
          response,
          200,
          signCosignature(text, nowS(), other, parseWitnessVkey(formatWitnessVkey('x.example', other.publicKey))),
        ),
    ],
    [
      'signs another checkpoint',
      /no cosignature/,
      (_text, _request, response) =>
        answer(response, 200, sign('x\n1\n'.concat(`${Buffer.alloc(32).toString('base64')}\n`), nowS())),
    ],
    [
      'sends a signature of an hour ago',
      /another time/,
      (text, _request, response) => answer(response, 200, sign(text, nowS() - 3_600)),
    ],
    [
      'sends a signature of tomorrow',
      /another time/,
      (text, _request, response) => answer(response, 200, sign(text, nowS() + 86_400)),
    ],
    [
      'sends the signature of an earlier checkpoint',
      /no cosignature/,
      (text, _request, response) => {
        replayed ??= sign(text.replace(/\n\d+\n/, '\n1\n'), nowS());
        answer(response, 200, replayed);
      },
    ],
    ['sends garbage', /no cosignature/, (_text, _request, response) => answer(response, 200, '\u0000\n\n— x\n')],
    ['sends nothing', /no cosignature/, (_text, _request, response) => answer(response, 200, '')],
    ['says 409 and no size', /without the size/, (_text, _request, response) => answer(response, 409, 'later\n')],
    ['says 409 for ever', /named/, (_text, _request, response) => answer(response, 409, '1\n', 'text/x.tlog.size')],
    [
      'sends elsewhere',
      /does not answer/,
      (_text, _request, response) => void response.writeHead(307, { location: own.url }).end(),
    ],
    ['does not know the log', /does not know/, (_text, _request, response) => answer(response, 404, '')],
    ['breaks off', /does not answer/, (_text, request) => void request.socket.destroy()],
  ])(
    'one that %s is asked again later, costs the others nothing, and nothing of it is kept',
    async (_what, reason, how) => {
      misbehave = how;
      const witnesses = start(
        policyOf(
          `witness bad ${hostileVkey} ${server.url}`,
          `witness own ${own.vkey} ${own.url}`,
          'group one any bad own',
          'quorum one',
        ),
        400,
      );
      const size = await grow();
      await until(() => witnesses.quorumSize() === size && witnesses.states()[0]?.failure !== null);
      expect(witnesses.states()).toMatchObject([
        { witness: 'hostile.example/w', size: null, failure: expect.stringMatching(reason) as string },
        { failure: null },
      ]);
      expect(
        await fixture.ledger
          .as('signer')
          .query(`select source from edict.meta_attestation where source ~ 'hostile'`, []),
      ).toEqual([]);
      expect(await fixture.alarms()).toEqual([]);
    },
  );

  it('two with one name are two', async () => {
    const vkey = formatWitnessVkey('own.example/w', hostile.publicKey);
    misbehave = (text, _request, response) =>
      answer(response, 200, signCosignature(text, nowS(), hostile, parseWitnessVkey(vkey)));
    const size = await grow();
    const witnesses = start(
      policyOf(
        `witness own ${own.vkey} ${own.url}`,
        `witness twin ${vkey} ${server.url}`,
        'group both all own twin',
        'quorum both',
      ),
    );
    await until(() => witnesses.quorumSize() === size);
    const published = await createMetaReader(fixture.ledger.as('reader_all')).published(1);
    expect(openCosignatures(published!.note, [own.vkey, vkey].map(parseWitnessVkey))).toHaveLength(2);
  });

  it('says when a quorum was last there, also where nothing new is to be cosigned', async () => {
    const size = await grow();
    let aheadMs = 0;
    const policy = policyOf(`witness own ${own.vkey} ${own.url}`, 'quorum own');
    const witnesses = start(policy, 20_000, () => Date.now() + aheadMs);
    await until(() => witnesses.quorumSize() === size);
    aheadMs = 600_000;
    expect(witnesses.trouble()).toBeUndefined();
    aheadMs = 3_600_000;
    expect(witnesses.trouble()).toMatch(/^no quorum of witnesses has cosigned the meta log since /);
  });

  it.each<readonly [string, string, typeof misbehave]>([
    ['another tree of the same size', 'meta_split_view', (_text, _request, response) => answer(response, 422, '')],
    [
      'another tree of the same size, as C2SP has it,',
      'meta_split_view',
      (text, _request, response) => answer(response, 409, `${text.split('\n')[1]}\n`, 'text/x.tlog.size'),
    ],
    [
      'a larger tree',
      'meta_witness_ahead',
      (_text, _request, response) => answer(response, 409, '999\n', 'text/x.tlog.size'),
    ],
  ])('one that has seen %s is an alarm, until it cosigns again', async (_what, alarm, how) => {
    misbehave = how;
    const size = await grow();
    const witnesses = start(policyOf(`witness bad ${hostileVkey} ${server.url}`, 'quorum bad'));
    await until(() => witnesses.trouble() !== undefined);
    expect(witnesses.trouble()).toContain('hostile.example/w has seen another tree');
    expect(await fixture.alarms()).toContainEqual(expect.objectContaining({ alarm, signed_size: size }));
    misbehave = (text, _request, response) => answer(response, 200, sign(text, nowS()));
    await until(() => witnesses.quorumSize() >= size);
    expect(witnesses.trouble()).toBeUndefined();
  });
});

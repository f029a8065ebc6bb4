import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startSigner } from '../../services/audit/signer-main.ts';
import { loadSettings, type Settings } from '../../services/shared/settings/settings.ts';
import { freePorts } from '../support/free-ports.ts';
import { silent } from './ingest/fixtures.ts';
import { masterKey, newDecision } from './postgres/ledger-fixture.ts';
import { openSigningFixture, type SigningFixture } from './signer/signing-fixture.ts';

describe('the signer on a database server', () => {
  let fixture: SigningFixture;
  let port: number | undefined;

  /** The settings that all programs of a deployment may share; only the signer's own files are there. */
  const settingsWith = (members: Readonly<Record<string, unknown>> = {}): Settings => {
    const { folder, url } = fixture.ledger;
    const secret = (name: string, content: string | Uint8Array): string => {
      const file = path.join(folder, name);
      writeFileSync(file, content);
      return file;
    };
    const file = secret(
      'edict.json',
      JSON.stringify({
        home: path.join(folder, 'home'),
        database: {
          writer_url_file: 'not-here.url',
          reader_url_file: 'not-here.url',
          signer_url_file: secret('signer.url', url('signer')),
          keys_url_file: secret('keys.url', url('admin')),
        },
        audit: { master_key_file: secret('master.key', masterKey) },
        ledger: { authority: 'test.example' },
        signer: { interval: '50ms', keys_dir: '.', memory_dir: 'memory', listen: `127.0.0.1:${port}` },
        ...members,
      }),
    );
    return loadSettings({ file, environment: {}, services: ['signer'] }).settings;
  };

  const until = async <T>(what: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> => {
    for (const deadline = Date.now() + 30_000; ;) {
      const value = await what();
      if (isDone(value)) return value;
      if (Date.now() > deadline) throw new Error(`did not happen: ${JSON.stringify(value)}`);
      await sleep(50);
    }
  };

  beforeEach(async () => {
    fixture = await openSigningFixture();
    [port] = await freePorts(1);
  });
  afterEach(() => fixture.ledger.close());

  it('signs under its own role, and says what it refuses', async () => {
    const { ledger, sealer, checkpoints, tamper } = fixture;
    const add = async (): Promise<void> => {
      await ledger.write(({ append }) => append(ledger.log, [newDecision()]));
      await sealer.sealAll();
    };
    await add();
    const signer = await startSigner(settingsWith(), { logger: silent });
    try {
      await until(
        () => checkpoints(ledger.log.id),
        ({ length }) => length === 1,
      );
      const ready = async () => {
        const response = await fetch(`${signer.url}/health/ready`);
        return { status: response.status, body: await response.json() };
      };
      await until(ready, ({ status }) => status === 200);
      await tamper(`update edict.log_head set size = 1 where log_id = ${ledger.log.id}`);
      const { body } = await until(ready, ({ status }) => status === 503);
      expect(body).toMatchObject({
        failing: ['logs'],
        checks: {
          logs: { facts: { refused: { [ledger.log.origin]: expect.stringMatching(/^log_rewound: /) as string } } },
        },
      });
      expect(await (await fetch(`${signer.url}/metrics`)).text()).toMatch(
        /edict_signer_alarms_total\{[^}]*alarm="log_rewound"[^}]*\} 1/,
      );
    } finally {
      await signer.close();
    }
  }, 90_000);

  it('does not start without its database role, nor with a listener that others reach', async () => {
    const withoutRole = settingsWith();
    const { signer_url_file: _role, ...database } = withoutRole.database;
    await expect(startSigner({ ...withoutRole, database }, { logger: silent })).rejects.toMatchObject({
      code: 'settings_invalid',
      message: expect.stringContaining('/database/signer_url_file') as string,
    });
    expect(() => settingsWith({ signer: { listen: '0.0.0.0:7182' } })).toThrow('/signer/listen');
  }, 90_000);

  it('does not share its memory with another signer', async () => {
    const first = await startSigner(settingsWith(), { logger: silent });
    try {
      await expect(startSigner(settingsWith(), { logger: silent })).rejects.toMatchObject({
        code: 'signer_memory_failed',
        message: expect.stringMatching(/: another signer works with it$/) as string,
      });
    } finally {
      await first.close();
    }
    await (await startSigner(settingsWith(), { logger: silent })).close();
  });

  it('says so while it has no private key of a log', async () => {
    const settings = settingsWith({ signer: { interval: '50ms', keys_dir: 'nowhere', listen: `127.0.0.1:${port}` } });
    await fixture.sealer.sealAll();
    const signer = await startSigner(settings, { logger: silent });
    try {
      const body = await until(
        async () => (await fetch(`${signer.url}/health/ready`)).json(),
        (value) => JSON.stringify(value).includes('is no private key'),
      );
      expect(body).toMatchObject({ failing: ['signing'] });
    } finally {
      await signer.close();
    }
  }, 90_000);
});

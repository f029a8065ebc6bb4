import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freshIds, ownEntry } from '../../../services/audit/core/own-entry.ts';
import { createSealer } from '../../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../../services/audit/ingest/statements.ts';
import { createSignerStore } from '../../../services/audit/postgres/meta-store.ts';
import { ensureLedgers, openLedgerStore, type LedgerStore } from '../../../services/audit/store.ts';
import { ledgerCommand } from '../../../services/cli/commands/ledger.ts';
import { homePaths } from '../../../services/shared/settings/home.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { signerIn } from '../../audit/signer/signing-fixture.ts';

describe('edict ledger resume on an embedded ledger whose folder was set back', () => {
  let home: string;
  const settings = () => loadSettings({ environment: { EDICT_HOME: home } }).settings;
  const signed = ({ database, keys, write }: LedgerStore) => {
    const signing = createSignerStore({ database, keys, transaction: (work) => write(({ sql }) => work(sql)) });
    return signerIn(homePaths(home).ledgerKeys, homePaths(home).signerMemory, signing);
  };
  const seal = async ({ database, write }: LedgerStore): Promise<void> => {
    const logs = () => readNewestLogs(database);
    await createSealer({ database, writeLedger: write, logs, ids: freshIds() }).sealAll();
  };
  const resume = async (...args: readonly string[]): Promise<unknown> => {
    const before = process.env['EDICT_HOME'];
    const write = process.stdout.write.bind(process.stdout);
    let output = '';
    process.env['EDICT_HOME'] = home;
    process.stdout.write = (chunk: string | Uint8Array) => {
      output += String(chunk);
      return true;
    };
    try {
      await ledgerCommand()
        .exitOverride()
        .parseAsync(['resume', '--reason', 'copy of 02:00', '--json', ...args], { from: 'user' });
    } finally {
      process.stdout.write = write;
      if (before === undefined) delete process.env['EDICT_HOME'];
      else process.env['EDICT_HOME'] = before;
    }
    return JSON.parse(output);
  };

  beforeEach(() => {
    home = mkdtempSync(path.join(os.tmpdir(), 'edict-resume-'));
  });
  afterEach(() => rmSync(home, { recursive: true, force: true }));

  it('goes on from what the signer’s memory, which is newer, says was signed', async () => {
    const folders = ['database', 'journal', 'subject-keys'].map((name) => path.join(home, name));
    const first = await openLedgerStore(settings());
    await ensureLedgers(settings(), first);
    await seal(first);
    await signed(first).signAll();
    await first.close();
    for (const folder of folders) cpSync(folder, `${folder}.copy`, { recursive: true });

    const second = await openLedgerStore(settings());
    const log = (await readNewestLogs(second.database)).get('default')!;
    await second.write(({ append }) => append(log, [ownEntry('default', 'alert', { alarm: 'of a test' }, freshIds())]));
    await seal(second);
    await signed(second).signAll();
    await second.close();

    for (const folder of folders) {
      rmSync(folder, { recursive: true });
      cpSync(`${folder}.copy`, folder, { recursive: true });
    }
    const third = await openLedgerStore(settings());
    const signer = signed(third);
    await signer.signAll();
    expect([...signer.refused()]).toEqual([
      [log.origin, expect.stringContaining('`edict ledger resume default --reason')],
      [expect.stringContaining('/-/meta/1'), expect.stringContaining('`edict ledger resume edict --reason')],
    ]);
    await third.close();

    await expect(resume('default', '--all')).rejects.toMatchObject({ code: 'usage' });
    expect(await resume('--all')).toMatchObject({
      ledgers: [
        // Its log lost nothing, but the meta log, which goes with it, did.
        { tenant: 'edict', incarnation: 2, continues: { size: '2', from: 'the database' }, kept: '2', found: '2' },
        {
          tenant: 'default',
          incarnation: 2,
          continues: { origin: log.origin, size: '4', from: 'the signer’s alarm' },
          kept: '2',
          found: '2',
          asked_again: '0',
        },
      ],
    });
    const fourth = await openLedgerStore(settings());
    await seal(fourth);
    const later = signed(fourth);
    await later.signAll();
    expect([...later.refused()]).toEqual([]);
    await expect(
      fourth.database.query(`update edict.log_head set size = size + 1 where log_id = ${log.id}`),
    ).rejects.toMatchObject({ message: expect.stringContaining('is closed') });
    await fourth.close();
  }, 300_000);
});

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  ensureLedgers,
  openLedgerStore,
  restartEmbeddedLedgers,
  type LedgerStore,
} from '../../services/audit/store.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';

describe('the embedded ledger store', () => {
  let home: string;
  const settings = () => loadSettings({ environment: { EDICT_HOME: home } }).settings;

  beforeEach(() => {
    home = mkdtempSync(path.join(os.tmpdir(), 'edict-store-'));
  });
  afterEach(() => rmSync(home, { recursive: true, force: true }));

  const leaves = ({ reader }: LedgerStore) =>
    reader.query("select log_id, seq, encode(leaf, 'hex') as leaf from edict.entry order by log_id, seq", []);

  it('survives a power cut that tears the database, and begins anew when the journal is lost', async () => {
    const first = await openLedgerStore(settings());
    const ledgers = await ensureLedgers(settings(), first);
    expect(ledgers.map(({ isNew, log }) => [isNew, log.tenant])).toEqual([
      [true, 'edict'],
      [true, 'default'],
    ]);
    expect((await ensureLedgers(settings(), first)).map(({ isNew }) => isNew)).toEqual([false, false]);
    expect(await first.flush()).toEqual(
      new Map([
        [1, 1n],
        [2, 1n],
      ]),
    );
    const before = await leaves(first);
    await first.close();
    expect(existsSync(path.join(home, 'database.opened'))).toBe(false);

    // Another start of the machine, and of the database only some of the files.
    writeFileSync(path.join(home, 'database.opened'), 'an earlier start of the machine');
    rmSync(path.join(home, 'database', 'global', 'pg_control'));
    const second = await openLedgerStore(settings());
    expect(second.recovered?.entries).toBe(2);
    expect(second.damaged).toMatch(/database\.damaged-/);
    expect(existsSync(second.damaged!)).toBe(true);
    expect(await leaves(second)).toEqual(before);
    await second.close();

    rmSync(path.join(home, 'journal'), { recursive: true });
    await expect(openLedgerStore(settings())).rejects.toMatchObject({ code: 'ledger_corrupt' });
    const { aside, ledgers: next } = await restartEmbeddedLedgers(settings());
    expect(aside).toHaveLength(2);
    expect(next.map(({ log }) => [log.tenant, log.incarnation])).toEqual([
      ['edict', 2],
      ['default', 2],
    ]);
    const third = await openLedgerStore(settings());
    expect(
      await third.reader.query(
        'select tenant::text as tenant, previous_size, previous_origin from edict.log order by id',
        [],
      ),
    ).toEqual(ledgers.map(({ log }) => ({ tenant: log.tenant, previous_size: 1n, previous_origin: log.origin })));
    await third.close();
    const keys = readdirSync(path.join(home, 'keys', 'ledger')).filter((name) => name.endsWith('.vkey'));
    expect(keys.sort()).toEqual([
      '@meta-1.vkey',
      '@meta-2.vkey',
      'default-1.vkey',
      'default-2.vkey',
      'edict-1.vkey',
      'edict-2.vkey',
    ]);
    expect(readFileSync(path.join(home, 'authority'), 'utf8')).toMatch(/^local-[0-9a-f]{16}\n$/);
  }, 300_000);
});

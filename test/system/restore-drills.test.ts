import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { failuresOf } from '../../scripts/replay/ledger.ts';
import type { RememberedLeaf } from '../../services/audit/core/verify-tenant.ts';
import type { PostgresServer } from '../support/postgres.ts';
import { openDrill, type Drill } from './support/drill.ts';

/** Backups that are restored, each into a server of its own; the ledger goes on meanwhile. */
describe('a ledger restored from a backup', () => {
  let drill: Drill;
  let backup: string;
  let fullBackup: string;
  /** Sizes of acme's log at its three checkpoints. */
  const sizes: bigint[] = [];
  let newest: RememberedLeaf;

  beforeAll(async () => {
    drill = await openDrill();
    await drill.decide(20);
    sizes.push(await drill.sign());
    backup = path.join(drill.newFolder('base'), 'data');
    const { port } = drill.server;
    const from = ['-h', '127.0.0.1', '-p', String(port), '-U', 'postgres'];
    await drill.postgresProgram('pg_basebackup', [...from, '-D', backup, '-X', 'stream', '-c', 'fast']);
    await drill.postgresProgram('pg_verifybackup', [backup]);
    await drill.pgBackRest('backup', '--type=full');
    const [stanza] = JSON.parse(await drill.pgBackRest('info', '--output=json')) as readonly {
      readonly backup: readonly { readonly label: string }[];
    }[];
    fullBackup = stanza?.backup[0]?.label ?? '';
    await drill.decide(20);
    sizes.push(await drill.sign());
    await drill.decide(5);
    // Between two checkpoints: with entries that the second does not cover, and without those of the third.
    await drill.mark('between');
    await drill.decide(20);
    sizes.push(await drill.sign());
    newest = await drill.remember();
    await drill.archive();
    await drill.pgBackRest('backup', '--type=incr');
  }, 240_000);
  afterAll(() => drill.close());

  const copyBase = async (dataFolder: string): Promise<void> => {
    await drill.copyFolder(backup, dataFolder);
    writeFileSync(path.join(dataFolder, 'recovery.signal'), '');
  };
  const fromArchive = (): Readonly<Record<string, string>> => ({
    restore_command: `cp ${drill.archiveFolder}/%f %p`,
    recovery_target_action: 'promote',
  });
  const backRest =
    (...target: readonly string[]) =>
    async (dataFolder: string): Promise<void> => {
      await drill.pgBackRest('restore', `--pg1-path=${dataFolder}`, ...target);
    };

  /** Everything that was committed is there, the newest checkpoint covers it, and the signer goes on. */
  const expectWhole = async (copy: PostgresServer): Promise<void> => {
    const { report, refused, alarms, sizes: found } = await drill.judge(copy, [newest]);
    expect(failuresOf(report)).toEqual([]);
    expect(report.size).toBe(String(newest.size));
    expect(report.verdicts.authenticity.status).toBe('ok');
    expect(found).toEqual(sizes);
    expect({ refused, alarms }).toEqual({ refused: undefined, alarms: [] });
  };

  /** The copy is sound in itself, and older than what was signed: only who remembers more can tell. */
  const expectRewound = async (copy: PostgresServer): Promise<void> => {
    const alone = await drill.judge(copy, []);
    expect(failuresOf(alone.report)).toEqual([]);
    expect(alone.sizes).toEqual(sizes.slice(0, 2));
    expect(BigInt(alone.report.size)).toBe((sizes[1] ?? 0n) + 5n);
    expect(alone.refused).toMatch(/^log_rewound: /);
    expect(alone.alarms).toEqual(['log_rewound']);
    const { report, sizes: found } = await drill.judge(copy, [newest]);
    expect(failuresOf(report).map((failure) => failure.split(':')[0])).toEqual(['append_only']);
    // No second checkpoint of any size was signed.
    expect(found).toEqual(sizes.slice(0, 2));
  };

  it('by pg_basebackup and the archive to its end, it verifies and is signed on', async () => {
    await expectWhole(await drill.startCopy(copyBase, fromArchive()));
  }, 120_000);

  it('by pg_basebackup to a time between two checkpoints, it is known for a rewind', async () => {
    await expectRewound(await drill.startCopy(copyBase, { ...fromArchive(), recovery_target_name: 'between' }));
  }, 120_000);

  it('by pgBackRest to the end of its archive, it verifies and is signed on', async () => {
    await expectWhole(await drill.startCopy(backRest()));
  }, 120_000);

  it('by pgBackRest to a time between two checkpoints, it is known for a rewind', async () => {
    await expectRewound(
      await drill.startCopy(
        backRest(`--set=${fullBackup}`, '--type=name', '--target=between', '--target-action=promote'),
      ),
    );
  }, 120_000);
});

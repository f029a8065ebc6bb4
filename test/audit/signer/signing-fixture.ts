/** A signer on a real ledger, under the signer's role, with its files in a folder of its own. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { openCheckpoint, type Checkpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import type { SigningStore } from '../../../services/audit/core/signing.ts';
import { createSealer, type Sealer } from '../../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../../services/audit/ingest/statements.ts';
import { createSigningStore } from '../../../services/audit/postgres/signing-store.ts';
import { openMemoryFolder } from '../../../services/audit/signer/memory-file.ts';
import { createSignerMetrics } from '../../../services/audit/signer/metrics.ts';
import { createSigner, type Signer } from '../../../services/audit/signer/signer.ts';
import { formatVkey, parseVkey, signingKeyFromPem } from '../../../services/shared/contracts/signatures.ts';
import type { ReplaceFs } from '../../../services/shared/spool/files.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { silent } from '../ingest/fixtures.ts';
import { openLedgerFixture, type LedgerFixture } from '../postgres/ledger-fixture.ts';

export interface SigningFixture {
  readonly ledger: LedgerFixture;
  readonly sealer: Sealer;
  readonly store: SigningStore;
  readonly memoryFolder: string;
  /** A signer as after a start. */
  readonly newSigner: (store?: SigningStore, memoryFolder?: string) => Signer;
  /** Every checkpoint of a log, each opened with the log's key. */
  readonly checkpoints: (logId: number) => Promise<readonly (Checkpoint | undefined)[]>;
  readonly alarms: () => Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** As a superuser, with every trigger and check off. */
  readonly tamper: (sql: string) => Promise<void>;
}

/** `keys`: the folder of the ledgers' private keys. */
export const signerIn = (keys: string, memoryFolder: string, store: SigningStore, fs?: ReplaceFs): Signer =>
  createSigner({
    store,
    memory: openMemoryFolder(memoryFolder, fs),
    keyOf: ({ tenant, incarnation, origin }) => {
      const key = signingKeyFromPem(readFileSync(path.join(keys, `${tenant}-${incarnation}.pem`), 'utf8'));
      return { key, verifier: parseVkey(formatVkey(origin, key.publicKey)) };
    },
    nowUs: () => BigInt(Date.now()) * 1_000n,
    logger: silent,
    metrics: createSignerMetrics(createRegistry({ service: 'signer', processMetrics: false })),
  });

export const openSigningFixture = async (): Promise<SigningFixture> => {
  const ledger = await openLedgerFixture();
  await ledger.createTenant('edict');
  const database = ledger.as('signer');
  const store = createSigningStore({ database, keys: ledger.keys, transaction: database.transaction });
  const memoryFolder = path.join(ledger.folder, 'memory');
  const writer = ledger.as('writer');
  return {
    ledger,
    store,
    memoryFolder,
    sealer: createSealer({
      database: writer,
      writeLedger: ledger.write,
      logs: () => readNewestLogs(writer),
      ids: freshIds(),
    }),
    newSigner: (given = store, folder = memoryFolder) => signerIn(ledger.folder, folder, given),
    checkpoints: async (logId) => {
      const rows = await ledger.as('reader_all').query<{ note: Buffer; vkey: string }>(
        `select c.note, l.vkey from edict.checkpoint c join edict.log l on l.id = c.log_id
         where c.log_id = $1::int order by c.size`,
        [logId],
      );
      return rows.map(({ note, vkey }) => openCheckpoint(note, parseVkey(vkey)));
    },
    alarms: () =>
      ledger
        .as('reader_all')
        .query('select log_id, alarm, signed_size, seq from edict.signer_alarm order by raised_us', []),
    tamper: (sql) =>
      ledger.as('admin').transaction(async (admin) => {
        for (const table of ['entry', 'payload', 'log', 'log_head', 'checkpoint', 'tree_node'])
          await admin.query(
            `do $$ declare t text; begin
               for t in select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where n.nspname = 'edict' and c.relkind in ('r', 'p') and c.relname ~ '^${table}(_l|$)' loop
                 execute 'alter table ' || t || ' disable trigger user';
               end loop; end $$`,
          );
        await admin.query(sql);
      }),
  };
};

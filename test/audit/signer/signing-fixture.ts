/** A signer on a real ledger, under the signer's role, with its files in a folder of its own. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { openCheckpoint, type Checkpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import { createSealer, type Sealer } from '../../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../../services/audit/ingest/statements.ts';
import type { SignerStore } from '../../../services/audit/core/meta-log.ts';
import { createSignerStore } from '../../../services/audit/postgres/meta-store.ts';
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
  readonly store: SignerStore;
  readonly memoryFolder: string;
  /** A signer as after a start. */
  readonly newSigner: (store?: SignerStore, memoryFolder?: string) => Signer;
  /** Every checkpoint of a log, each opened with the log's key. */
  readonly checkpoints: (logId: number) => Promise<readonly (Checkpoint | undefined)[]>;
  /** Every checkpoint of the meta log, each opened with its key. */
  readonly metaCheckpoints: () => Promise<readonly (Checkpoint | undefined)[]>;
  /** The entries of the meta log, H(note) of the checkpoint that each leaf names, and whether that is what is stored. */
  readonly metaLeaves: () => Promise<
    readonly { readonly index: bigint; readonly note: Buffer; readonly fits: boolean }[]
  >;
  readonly alarms: () => Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** As a superuser, with every trigger and check off. */
  readonly tamper: (sql: string) => Promise<void>;
}

/** `keys`: the folder of the ledgers' private keys. */
export const signerIn = (keys: string, memoryFolder: string, store: SignerStore, fs?: ReplaceFs): Signer =>
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

/** The root of a meta log over these notes, RFC 6962, by splitting at the largest power of two. */
export const metaRootOf = (notes: readonly Uint8Array[]): Buffer => {
  const hash = (...parts: readonly Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();
  const [only] = notes;
  if (notes.length === 1 && only !== undefined) return hash(Buffer.from([0]), hash(only));
  let split = 1;
  while (split * 2 < notes.length) split *= 2;
  return hash(Buffer.from([1]), metaRootOf(notes.slice(0, split)), metaRootOf(notes.slice(split)));
};

export const openSigningFixture = async (): Promise<SigningFixture> => {
  const ledger = await openLedgerFixture();
  await ledger.createTenant('edict');
  const database = ledger.as('signer');
  const store = createSignerStore({ database, keys: ledger.keys, transaction: database.transaction });
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
    metaCheckpoints: async () => {
      const rows = await ledger.as('reader_all').query<{ note: Buffer; vkey: string }>(
        `select c.note, m.vkey from edict.meta_checkpoint c join edict.meta_log m using (incarnation)
         order by c.incarnation, c.size`,
        [],
      );
      return rows.map(({ note, vkey }) => openCheckpoint(note, parseVkey(vkey)));
    },
    metaLeaves: () =>
      ledger.as('reader_all').query(
        `select m.index, c.note, m.entry = sha256(c.note) as fits
         from edict.checkpoint c left join edict.meta_leaf m using (log_id, size) order by m.incarnation, m.index`,
        [],
      ),
    alarms: () =>
      ledger
        .as('reader_all')
        .query('select log_id, alarm, signed_size, seq from edict.signer_alarm order by raised_us', []),
    tamper: (sql) =>
      ledger.as('admin').transaction(async (admin) => {
        for (const table of [
          'entry',
          'payload',
          'log',
          'log_head',
          'checkpoint',
          'tree_node',
          'meta_log',
          'meta_leaf',
          'meta_node',
          'meta_checkpoint',
        ])
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

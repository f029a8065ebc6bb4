import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { NewEntry, WriteLedger } from '../../../services/audit/core/append.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import type { PayloadKeys } from '../../../services/audit/core/payload-keys.ts';
import { createSearchNames } from '../../../services/audit/core/pseudonym.ts';
import { createPostgresPayloadKeys } from '../../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger, type LedgerDescription } from '../../../services/audit/postgres/create-ledger.ts';
import { createLedgerWriter } from '../../../services/audit/postgres/ledger-writer.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from '../../../services/audit/postgres/migrate.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import { createTestDatabase } from '../../support/postgres.ts';

const ROLES = ['owner', 'writer', 'reader', 'reader_all', 'signer', 'maintainer', 'tripwire'] as const;
export type TestRole = (typeof ROLES)[number];

/** Logins of the shared test server, one for each role of the ledger; made once, whichever file comes first. */
const login = (role: TestRole): string => `edict_test_${role}`;

const template = {
  name: 'ledger_roles',
  fill: async (adminUrl: string) => {
    const admin = connectPostgres(adminUrl, { poolSize: 1 });
    try {
      await migrate(admin, ledgerMigrations());
      await migrate(admin, keyStoreMigrations());
      for (const role of ROLES)
        await admin.query(
          `do $$ begin create role ${login(role)} login ${role === 'tripwire' ? 'replication' : ''} in role edict_${role}; exception when duplicate_object or unique_violation then null; end $$`,
        );
    } finally {
      await admin.close();
    }
  },
};

export const masterKey = randomBytes(32);
export const nameForSearch = createSearchNames(masterKey);

/** A migrated database with one ledger, `acme`, and a connection for each role. */
export interface LedgerFixture {
  readonly as: (role: TestRole | 'admin') => Database;
  readonly url: (role: TestRole | 'admin') => string;
  readonly keys: PayloadKeys;
  readonly log: LedgerDescription;
  readonly createTenant: (tenant: string, newIncarnation?: boolean) => Promise<LedgerDescription>;
  /** Under the writer's role. */
  readonly write: WriteLedger;
  readonly folder: string;
  readonly close: () => Promise<void>;
}

/** `serverUrl`: of a server of the test's own, as its superuser. */
export const openLedgerFixture = async (serverUrl?: string): Promise<LedgerFixture> => {
  const test = await createTestDatabase(template, serverUrl);
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-ledger-'));
  const open = new Map<string, Database>();
  const url = (role: TestRole | 'admin'): string => (role === 'admin' ? test.adminUrl : test.url(login(role)));
  const as = (role: TestRole | 'admin'): Database => {
    const known = open.get(role);
    if (known !== undefined) return known;
    const database = connectPostgres(url(role), { poolSize: 3, prepares: role === 'writer' });
    open.set(role, database);
    return database;
  };
  const keys = createPostgresPayloadKeys(connectPostgres(test.adminUrl, { poolSize: 2 }), { masterKey });
  let now = 1_700_000_000_000_000n;
  const nowUs = () => (now += 1n);
  const writerOf = (role: 'owner' | 'writer') => createLedgerWriter({ database: as(role), keys, nameForSearch, nowUs });
  const createTenant = async (tenant: string, newIncarnation = false) =>
    (
      await createLedger({
        write: writerOf('owner'),
        tenant,
        authority: 'test.example',
        keyFile: (name, incarnation) => path.join(folder, `${name}-${incarnation}.pem`),
        nowUs,
        newIncarnation,
      })
    ).log;
  return {
    as,
    url,
    keys,
    log: await createTenant('acme'),
    createTenant,
    write: writerOf('writer'),
    folder,
    close: async () => {
      await Promise.all([...open.values()].map((each) => each.close()));
      await keys.close();
      await test.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

let offset = 0n;

/** A decision of `alice`, every other one denied, with whatever is given in its place. */
export const newDecision = (changes: Partial<NewEntry> = {}): NewEntry => {
  offset += 1n;
  const subject = changes.subject ?? { issuer: '', type: 'user', id: 'alice' };
  return {
    kind: 'decision',
    eventId: newUuidV7(),
    topic: 'edict.decisions.v1',
    partition: 0,
    offset,
    emitter: 'ab'.repeat(16),
    boot: 1n,
    emitterSeq: offset,
    policySetDigest: randomBytes(32),
    contentType: 'application/cloudevents+json',
    payload: Buffer.from(`{"nonce":"${randomBytes(16).toString('hex')}"}`),
    subject,
    search: {
      eventTimeMs: 1_700_000_000_000,
      decision: offset % 2n === 0n ? 'deny' : 'allow',
      reasons: offset % 2n === 0n ? ['agent_not_entitled'] : [],
      subject,
      action: 'read',
      resourceType: 'dataset',
      resource: 'hr.salaries',
      caller: 'gw-1',
    },
    ...changes,
  };
};

/** A running audit service with a log of several checkpoints, and bundles of it. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../../services/audit/core/database.ts';
import { createRecordAccess } from '../../../services/audit/core/record-access.ts';
import type { EvidenceReport } from '../../../services/audit/core/verify-evidence.ts';
import { auditAccess } from '../../../services/audit/http/access.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { readTenantLogs } from '../../../services/audit/postgres/read-ledger.ts';
import type { Log, NewEntry } from '../../../services/audit/core/append.ts';
import {
  formatVkey,
  parseVkey,
  signingKeyFromPem,
  type SigningKey,
  type VerifierKey,
} from '../../../services/shared/contracts/signatures.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';
import { createTestDatabase } from '../../support/postgres.ts';
import { verifyTwice } from '../core/evidence-bundle.ts';
import {
  createFeeder,
  decisionMembers,
  LEDGER_TEMPLATE,
  ledgerKeys,
  openLedger,
  searchNames,
  signLedgers,
} from './ledger-fixture.ts';
import { startAudit } from './started-audit.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly trailers: IncomingMessage['trailers'];
  readonly bytes: Buffer;
}

export const TENANT = 'umbrella';

/** `hasKey`: the auditor brings the log's key. Rejects when the second verifier has other verdicts. */
export type VerifyFile = (bytes: Buffer, hasKey?: boolean) => Promise<EvidenceReport>;

export interface EvidenceFixture {
  readonly database: Database;
  readonly log: Log;
  readonly key: SigningKey;
  readonly vkey: VerifierKey;
  readonly folder: string;
  readonly feeder: ReturnType<typeof createFeeder>;
  readonly decision: (subject: string, decision: 'allow' | 'deny') => NewEntry;
  /** Seals the logs and signs them. */
  readonly sign: () => Promise<void>;
  readonly get: (query: string) => Promise<Answer>;
  readonly verify: VerifyFile;
  /** As a superuser, with triggers off. */
  readonly tamper: (sql: string) => Promise<void>;
  readonly close: () => Promise<void>;
}

export const openEvidenceFixture = async (): Promise<EvidenceFixture> => {
  const test = await createTestDatabase(LEDGER_TEMPLATE);
  const database = connectPostgres(test.adminUrl, { poolSize: 4 });
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-evidence-'));
  const { keys, write } = openLedger(database);
  const keyFile = path.join(folder, `${TENANT}-1.pem`);
  const { log } = await createLedger({
    write,
    tenant: TENANT,
    authority: 'audit.example.com',
    keyFile: () => keyFile,
    nowUs: () => BigInt(Date.now()) * 1000n,
  });
  ledgerKeys.set(TENANT, readFileSync(keyFile, 'utf8'));
  const access = auditAccess(loadSettings({ environment: {} }).settings);
  if (access.mode !== 'open') throw new Error('open');
  const audit = await startAudit({
    database,
    keys,
    recordAccess: createRecordAccess(write, (tenant) => readTenantLogs(database, tenant)),
    access: () => ({ ...access, tenants: new Set([TENANT, 'acme', 'globex']) }),
    nameSubject: searchNames,
  });
  const key = signingKeyFromPem(readFileSync(keyFile, 'utf8'));
  const vkey = parseVkey(formatVkey(log.origin, key.publicKey));
  const feeder = createFeeder(write, log);
  return {
    database,
    log,
    key,
    vkey,
    folder,
    feeder,
    decision: (subject, decision) => feeder.decision(decisionMembers(subject, 'read', decision, { agent: 'planner' })),
    sign: () => signLedgers(database, path.join(folder, 'memory')),
    get: (query) =>
      new Promise((resolve, reject) => {
        httpRequest(`${audit.url}/v1/export?tenant=${TENANT}&${query}`, (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.once('error', reject);
          response.once('end', () => {
            const { statusCode: status = 0, headers, trailers } = response;
            resolve({ status, headers, trailers, bytes: Buffer.concat(parts) });
          });
        })
          .once('error', reject)
          .end();
      }),
    verify: (bytes, hasKey = true) =>
      verifyTwice(bytes, folder, hasKey ? formatVkey(log.origin, key.publicKey) : undefined),
    tamper: (sql) =>
      database.transaction(async (admin) => {
        await admin.query(
          `do $$ declare t text; begin
             for t in select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'edict' and c.relkind in ('r', 'p') and c.relname ~ '^(entry|payload|checkpoint)' loop
               execute 'alter table ' || t || ' disable trigger user';
             end loop; end $$`,
        );
        await admin.query(sql);
      }),
    close: async () => {
      await audit.close();
      await database.close();
      await test.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

/** Three checkpoints, and entries that none covers; the time behind each. */
export const fillEvidence = async ({ feeder, decision, sign }: EvidenceFixture): Promise<readonly string[]> => {
  const times: string[] = [];
  const grow = async (entries: readonly NewEntry[]): Promise<void> => {
    await feeder.store(entries);
    await sign();
    await sleep(5);
    times.push(new Date().toISOString());
    await sleep(5);
  };
  await grow([decision('alice', 'allow'), decision('bob', 'deny'), decision('alice', 'deny')]);
  await grow(Array.from({ length: 300 }, (_, n) => decision(`user-${n % 7}`, n % 5 === 0 ? 'deny' : 'allow')));
  await grow([decision('alice', 'deny'), feeder.heartbeat(), decision('carol', 'allow')]);
  await feeder.store([decision('alice', 'deny')]);
  return times;
};

import pg from 'pg';
import { decodeEntry, entryKindName, type EntryKind } from '../../../services/audit/core/entry.ts';
import { bytesToUuid } from '../../../services/shared/contracts/uuid.ts';

/** An entry as its own bytes say, read past the audit service. */
export interface LedgerRow {
  readonly seq: bigint;
  readonly kind: EntryKind | undefined;
  readonly eventId: string;
  readonly emitter: string;
  readonly boot: string;
  readonly sequence: string;
}

/** All entries of a tenant's log in their order, with the superuser's eyes. */
export async function readRows(ledgerUrl: string, tenant: string): Promise<readonly LedgerRow[]> {
  return await withClient(ledgerUrl, async (client) => {
    const { rows } = await client.query<{ header: Buffer }>(
      `select e.header from edict.entry e join edict.log l on l.id = e.log_id where l.tenant = $1 order by e.seq`,
      [tenant],
    );
    return rows.map(({ header }) => {
      const entry = decodeEntry(header);
      return {
        seq: entry.seq,
        kind: entryKindName(entry.kind),
        eventId: bytesToUuid(entry.eventId),
        emitter: Buffer.from(entry.emitter).toString('hex'),
        boot: String(entry.boot),
        sequence: String(entry.emitterSeq),
      };
    });
  });
}

/**
 * Read past the audit service: no event and no number of a stream stands twice, and the numbers of a stream only go up.
 */
export async function expectRowsOnce(ledgerUrl: string, tenant: string): Promise<void> {
  const rows = await readRows(ledgerUrl, tenant);
  expect(rows.map(({ seq }) => seq)).toEqual(rows.map((_, index) => BigInt(index)));
  expect(new Set(rows.map(({ eventId }) => eventId)).size).toBe(rows.length);
  const last = new Map<string, bigint>();
  for (const { emitter, boot, sequence } of rows.filter((row) => row.sequence !== '0')) {
    const stream = `${emitter}/${boot}`;
    expect(BigInt(sequence)).toBeGreaterThan(last.get(stream) ?? 0n);
    last.set(stream, BigInt(sequence));
  }
}

/** Runs `work` in a session of its own. */
export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

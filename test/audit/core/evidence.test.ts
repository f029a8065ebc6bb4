import { commitPayload, encodeEntry, ENTRY_KINDS, genesisHash, leafHash } from '../../../services/audit/core/entry.ts';
import { EVIDENCE_FORMAT, MAX_MEMBER_BYTES, type EvidenceAbout } from '../../../services/audit/core/evidence-format.ts';
import { readEvidence } from '../../../services/audit/core/evidence-read.ts';
import { writeEvidence, type EvidenceRow } from '../../../services/audit/core/evidence-write.ts';
import { verifyEvidence } from '../../../services/audit/core/verify-evidence.ts';
import { formatVkey, generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { tarMember } from './evidence-bundle.ts';

const ORIGIN = 'audit.example.com/acme/0/1';
const { key } = generateSigningKey();
const vkey = formatVkey(ORIGIN, key.publicKey);

const about: EvidenceAbout = {
  format: EVIDENCE_FORMAT,
  scope: 'range',
  tenant: 'acme',
  origin: ORIGIN,
  by: 'auditor',
  exported_at: '2026-01-01T00:00:00.000Z',
  filter: {},
  access: { log: ORIGIN, begun: '9' },
  size: '9',
  start: { size: '0', subtrees: [], checkpoint: null },
};

/** Entries of `bytes` each; `onRow` sees each as it is asked for. */
const rows = async function* (count: number, bytes: number, onRow: () => void): AsyncGenerator<EvidenceRow> {
  let prev: Uint8Array = genesisHash({ origin: ORIGIN, vkey });
  const payload = Buffer.from(JSON.stringify({ alert: 'x'.repeat(bytes) }));
  const salt = Buffer.alloc(32, 1);
  for (let seq = 0n; seq < BigInt(count); seq += 1n) {
    onRow();
    const header = encodeEntry({
      kind: ENTRY_KINDS.alert,
      seq,
      ingestUs: 1_767_225_600_000_000n + seq,
      eventId: Buffer.alloc(16, 1),
      topic: '',
      partition: 0,
      offset: 0n,
      emitter: Buffer.alloc(16),
      boot: 0n,
      emitterSeq: 0n,
      policySetDigest: Buffer.alloc(32),
      commitment: commitPayload(salt, 'application/json', payload),
      prev,
    });
    prev = leafHash(header);
    yield { seq, header, payload: { state: 'opened', salt, contentType: 'application/json', payload } };
  }
};

describe('an evidence bundle as a stream', () => {
  it('is written as it is read: some MiB of entries wait for their member', async () => {
    let read = 0;
    const log = { vkey, checkpoint: Buffer.from('no note') };
    let before = 0;
    let most = 0;
    let largest = 0;
    for await (const chunk of writeEvidence(
      about,
      log,
      rows(4_000, 2_000, () => (read += 1)),
    )) {
      most = Math.max(most, read - before);
      largest = Math.max(largest, chunk.length);
      before = read;
    }
    expect(read).toBe(4_000);
    expect(most).toBeLessThan(500);
    expect(largest).toBeLessThan(1.1 * 1024 * 1024);
  });

  it('is read a member at a time', async () => {
    let taken = 0;
    const chunks = async function* () {
      const log = { vkey, checkpoint: Buffer.from('no note') };
      for await (const chunk of writeEvidence(
        about,
        log,
        rows(2_000, 2_000, () => undefined),
      )) {
        taken += chunk.length;
        yield chunk;
      }
    };
    let given = 0;
    for await (const { bytes } of readEvidence(chunks())) {
      given += bytes.length;
      // What was taken is given, but for headers, padding and one chunk.
      expect(taken - given).toBeLessThan(32 * 1024);
    }
    expect(given).toBeGreaterThan(4_000_000);
  });

  it('is left alone as soon as it is none', async () => {
    let taken = 0;
    const endless = (first: Uint8Array) =>
      async function* () {
        yield first;
        for (;;) {
          taken += 65_536;
          yield Buffer.alloc(65_536);
        }
      };
    const large = tarMember({ name: 'README.md', bytes: Buffer.alloc(MAX_MEMBER_BYTES + 1) }).subarray(0, 512);
    for (const [first, what] of [
      [Buffer.alloc(0), 'another member, or another header'],
      [large, `has ${MAX_MEMBER_BYTES + 1} bytes`],
    ] as const) {
      const { report, about: read } = await verifyEvidence(endless(first)(), { now: Date.now });
      expect(read).toBeUndefined();
      expect(report.verdicts.integrity).toMatchObject({
        status: 'failed',
        firstBad: { what: 'member README.md', actual: expect.stringContaining(what) as unknown },
      });
    }
    expect(taken).toBeLessThan(500_000);
  });

  it('that cannot be read is no verdict on it', async () => {
    const gone = async function* (): AsyncGenerator<Uint8Array> {
      yield tarMember({ name: 'README.md', bytes: Buffer.from('x') });
      throw Object.assign(new Error('gone'), { code: 'EIO' });
    };
    await expect(verifyEvidence(gone(), { now: Date.now })).rejects.toThrow('gone');
  });
});

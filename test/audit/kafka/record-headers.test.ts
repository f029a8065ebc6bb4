import { createRequire } from 'node:module';
import { MAX_HEADERS } from '../../../services/audit/core/ingest-source.ts';
import { keepRecordHeaders, recordHeaders } from '../../../services/audit/kafka/record-headers.ts';

type Values = readonly (readonly [string, Uint8Array])[];

const load = createRequire(import.meta.url);
const Encoder = load('kafkajs/src/protocol/encoder') as new () => {
  readonly writeVarInt: (value: number) => void;
  readonly writeVarIntString: (value: string) => void;
  readonly writeVarIntBytes: (value: Buffer | null) => void;
  readonly buffer: Buffer;
};
const Decoder = load('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => object;
const decodeRecord = load('kafkajs/src/protocol/recordBatch/record/v0/decoder') as (
  decoder: object,
  context: object,
) => { readonly headers: unknown; readonly value: Buffer | null };

/** A record as it lies in a batch, after its length. */
const recordBytes = (headers: readonly (readonly [string, Buffer | null])[]): Buffer => {
  const encoder = new Encoder();
  encoder.writeVarIntBytes(null);
  encoder.writeVarIntBytes(Buffer.from('event'));
  encoder.writeVarInt(headers.length);
  for (const [name, value] of headers) {
    encoder.writeVarIntString(name);
    encoder.writeVarIntBytes(value);
  }
  return Buffer.concat([Buffer.alloc(3), encoder.buffer]);
};

const decode = (headers: Parameters<typeof recordBytes>[0]): Values => {
  const record = decodeRecord(new Decoder(recordBytes(headers)), { firstOffset: '7', firstTimestamp: '0' });
  expect(record.value?.toString()).toBe('event');
  return recordHeaders(record.headers).map(([name, value]) => [name, Buffer.from(value)]);
};

describe('the headers of a Kafka record', () => {
  it('are not read from a client that folds them', () => {
    expect(() => recordHeaders({ tenant: Buffer.from('acme') })).toThrow(expect.objectContaining({ code: 'internal' }));
  });

  it('are what was sent, in its order, whatever the names', () => {
    keepRecordHeaders();
    const sent = ['__proto__', 'constructor', 'toString', 'tenant', 'tenant', '', '0'].map(
      (name, index) => [name, Buffer.from(`value ${index}`)] as const,
    );
    expect(decode(sent)).toEqual(sent);
    expect(decode([])).toEqual([]);
    expect(decode([['tenant', null]])).toEqual([['tenant', Buffer.alloc(0)]]);
  });

  it('are looked at no further than one too many', () => {
    keepRecordHeaders();
    const sent = Array.from({ length: 200_000 }, (_, index) => [`h${index}`, Buffer.from('v')] as const);
    const startedMs = performance.now();
    expect(decode(sent)).toHaveLength(MAX_HEADERS + 1);
    // Folding this many into an object took hours.
    expect(performance.now() - startedMs).toBeLessThan(5_000);
    expect(decode(sent.slice(0, MAX_HEADERS))).toEqual(sent.slice(0, MAX_HEADERS));
  });
});

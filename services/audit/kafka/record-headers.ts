import { createRequire } from 'node:module';
import { isObject } from '../../shared/contracts/json.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { MAX_HEADERS, type SourceMessage } from '../core/ingest-source.ts';

type Headers = SourceMessage['headers'];

/** What the client's decoder of the wire has that is used here (kafkajs 2.2.4, `src/protocol/decoder.js`). */
interface WireDecoder {
  readonly readVarInt: () => number;
  readonly readVarIntString: () => string | null;
  readonly readVarIntBytes: () => Buffer | null;
}
interface WireDecoderClass {
  new (bytes: Buffer): WireDecoder;
  readonly prototype: WireDecoder & { readVarIntArray: (this: WireDecoder) => unknown };
}
type DecodeRecord = (decoder: WireDecoder, context: object) => unknown;

const NO_BYTES = Buffer.alloc(0);

/**
 * A record's headers in the order received, a header without name or value with an empty one. Nothing behind the first
 * that is too many is looked at: they are the last of a record, and a megabyte has room for half a million.
 */
class DecodedHeaders {
  readonly list: Headers;

  constructor(decoder: WireDecoder) {
    const list: [string, Uint8Array][] = [];
    for (let left = Math.min(decoder.readVarInt(), MAX_HEADERS + 1); left > 0; left -= 1)
      list.push([decoder.readVarIntString() ?? '', decoder.readVarIntBytes() ?? NO_BYTES]);
    this.list = list;
  }

  /** The client folds what it decoded into an object; this is what it gets instead. */
  reduce(): this {
    return this;
  }
}

/** A record (KIP-98, magic 2) after its length: no key, no value, one header `constructor: x`. */
const PROBE = Buffer.concat([Buffer.from([0, 0, 0, 1, 1, 2, 22]), Buffer.from('constructor'), Buffer.from([2, 120])]);

/**
 * Makes the client hand over the headers of records as they are. By itself it folds them into a plain object: a header
 * that is named as something every object inherits (`constructor`, `__proto__`) becomes a list with a function in it or
 * is lost, and folding takes quadratic time. Only records have arrays of this kind, so that nothing else of the client
 * changes; for the rest of the process `message.headers` is what `recordHeaders` reads. Throws `internal` when the
 * client is another one than this was written for.
 */
export const keepRecordHeaders = (): void => {
  const load = createRequire(import.meta.url);
  const decoders = load('kafkajs/src/protocol/decoder') as WireDecoderClass;
  const decodeRecord = load('kafkajs/src/protocol/recordBatch/record/v0/decoder') as DecodeRecord;
  decoders.prototype.readVarIntArray = function readHeaders() {
    return new DecodedHeaders(this);
  };
  const record = decodeRecord(new decoders(PROBE), { firstOffset: '0', firstTimestamp: '0' });
  const [first] = recordHeaders(isObject(record) ? record['headers'] : undefined);
  if (first?.[0] !== 'constructor' || Buffer.from(first[1]).toString() !== 'x')
    throw new AppError('internal', 'the Kafka client decodes records in another way than it did');
};

/** The headers of a message that the client gave. Throws `internal` when `keepRecordHeaders` was not called before. */
export const recordHeaders = (headers: unknown): Headers => {
  if (headers instanceof DecodedHeaders) return headers.list;
  throw new AppError('internal', 'the headers of a Kafka record were not kept as they are');
};

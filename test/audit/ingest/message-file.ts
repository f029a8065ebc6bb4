import type { SourceMessage } from '../../../services/audit/core/ingest-source.ts';

interface StoredMessage {
  readonly topic: string;
  readonly partition: number;
  readonly offset: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly value: string;
}

/** Messages as text, for a process that takes them. */
export const formatMessages = (messages: readonly SourceMessage[]): string =>
  JSON.stringify(
    messages.map(({ topic, partition, offset, headers, value }): StoredMessage => ({
      topic,
      partition,
      offset: String(offset),
      headers: headers.map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')]),
      value: Buffer.from(value).toString('base64'),
    })),
  );

export const readMessages = (text: string): readonly SourceMessage[] =>
  (JSON.parse(text) as readonly StoredMessage[]).map(({ topic, partition, offset, headers, value }) => ({
    topic,
    partition,
    offset: BigInt(offset),
    headers: headers.map(([name, bytes]) => [name, Buffer.from(bytes, 'base64')]),
    value: Buffer.from(value, 'base64'),
  }));

import type { SourceMessage } from './ingest-source.ts';

const TOPIC = /^spool\/([0-9a-f]{32})$/;

/** The ledger's name of an emitter's spool; it has one partition, 0, and a record's number is its offset. */
export const spoolTopic = (emitter: string): string => `spool/${emitter}`;

/** The emitter whose spool a topic names; undefined for any other topic. */
export const emitterOfTopic = (topic: string): string | undefined => TOPIC.exec(topic)?.[1];

/** A record of an emitter's spool as a message: what Kafka would carry in headers stands in the record. */
export const spoolMessage = (
  emitter: string,
  record: {
    readonly number: bigint;
    readonly boot: bigint;
    readonly tenant: string;
    readonly sequence: bigint;
    readonly event: Uint8Array;
  },
): SourceMessage => ({
  topic: spoolTopic(emitter),
  partition: 0,
  offset: record.number,
  headers: [
    ['emitter', Buffer.from(emitter)],
    ['boot', Buffer.from(record.boot.toString())],
    ['tenant', Buffer.from(record.tenant)],
    ['sequence', Buffer.from(record.sequence.toString())],
  ],
  value: record.event,
});

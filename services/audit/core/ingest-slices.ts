import type { Reading } from './ingest-message.ts';

/** Bytes of messages in one transaction, so that the memory that one takes is bounded. */
const MAX_BATCH_BYTES = 8 * 1024 * 1024;
/** Entries that the messages of one transaction can become; the writer refuses more than 32,768. */
const MAX_BATCH_ENTRIES = 20_000;
/** Of one event: itself, an alert about the event before and after it, the heal of a gap. */
const ENTRIES_OF_AN_EVENT = 4;

/** How many entries a message can become: each earlier boot that a heartbeat names can be worth an alert. */
const entriesOf = ({ content }: Reading): number => {
  const claim = content.ok ? content.event.claim : undefined;
  const claimed = claim?.type === 'heartbeat' ? claim.recovered : claim?.type === 'lost' ? claim.ranges : [];
  return ENTRIES_OF_AN_EVENT + claimed.length;
};

/** Cuts messages into transactions: by count, by bytes and by what they can become, at least one message each. */
export interface Slicer {
  /** Takes the next message; gives the slice before it, when that is full. */
  readonly add: (reading: Reading) => readonly Reading[] | undefined;
  /** What is left at the end; empty when nothing was added. */
  readonly rest: () => readonly Reading[];
}

export const createSlicer = (maxCount: number): Slicer => {
  let slice: Reading[] = [];
  let bytes = 0;
  let entries = 0;
  return {
    add(reading) {
      const [ownBytes, ownEntries] = [reading.message.value.length, entriesOf(reading)];
      bytes += ownBytes;
      entries += ownEntries;
      const isFull =
        slice.length > 0 && (slice.length >= maxCount || bytes > MAX_BATCH_BYTES || entries > MAX_BATCH_ENTRIES);
      if (!isFull) {
        slice.push(reading);
        return undefined;
      }
      const full = slice;
      slice = [reading];
      [bytes, entries] = [ownBytes, ownEntries];
      return full;
    },
    rest: () => slice,
  };
};

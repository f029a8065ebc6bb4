import { openSpoolReader, type SpoolReader } from '../../shared/spool/reader.ts';
import { listSpools } from '../../shared/spool/slots.ts';
import type { SourceMessage } from '../core/ingest-source.ts';
import { emitterOfTopic, spoolMessage } from '../core/spool-message.ts';

const RECORDS_AT_ONCE = 500;
const BYTES_AT_ONCE = 8 * 1024 * 1024;

export interface SpoolMessages {
  /** The record `offset` of the spool that `topic` (`spool/<emitter>`) names, as ingest saw it; undefined when it is gone. */
  readonly fetch: (place: { readonly topic: string; readonly offset: bigint }) => Promise<SourceMessage | undefined>;
  readonly close: () => void;
}

interface OpenSpool {
  readonly reader: SpoolReader;
  readonly records: Map<bigint, SourceMessage>;
}

/** Reads single records back from the spools under `home`; fast when they are asked for in order. */
export const createSpoolMessages = (home: string): SpoolMessages => {
  const open = new Map<string, OpenSpool>();
  return {
    fetch: async ({ topic, offset }) => {
      const emitter = emitterOfTopic(topic);
      if (emitter === undefined) return undefined;
      let spool = open.get(emitter);
      if (spool === undefined) {
        const found = listSpools(home).spools.find((each) => each.emitter === emitter);
        if (found === undefined) return undefined;
        spool = {
          reader: openSpoolReader({ directory: found.directory, emitter, from: offset }),
          records: new Map(),
        };
        open.set(emitter, spool);
      }
      const known = spool.records.get(offset);
      if (known !== undefined) return known;
      spool.records.clear();
      spool.reader.seek(offset);
      const batch = await spool.reader.read({ maxRecords: RECORDS_AT_ONCE, maxBytes: BYTES_AT_ONCE });
      if (batch.kind !== 'records') return undefined;
      for (const record of batch.records) spool.records.set(record.number, spoolMessage(emitter, record));
      return spool.records.get(offset);
    },
    close: () => {
      for (const { reader } of open.values()) reader.close();
      open.clear();
    },
  };
};

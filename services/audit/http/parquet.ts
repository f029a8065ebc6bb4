import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { EXPORT_COLUMNS, type ExportRow } from '../core/export-row.ts';

/** A row group holds so many rows, or of so many characters, and is in memory until it is whole. */
const MAX_ROWS = 10_000;
const MAX_CHARACTERS = 4 * 1024 * 1024;

type Name = keyof typeof EXPORT_COLUMNS;
type Cell = string | bigint | Date | null;

const TIMES: ReadonlySet<Name> = new Set<Name>(['event_time', 'ingest_time']);
const names = Object.keys(EXPORT_COLUMNS) as Name[];

const SCHEMA = [
  { name: 'decisions', num_children: names.length },
  ...names.map((name) => {
    const optional = { name, repetition_type: 'OPTIONAL' } as const;
    if (TIMES.has(name)) return { ...optional, type: 'INT64', converted_type: 'TIMESTAMP_MILLIS' } as const;
    if (name === 'seq') return { ...optional, type: 'INT64' } as const;
    return { ...optional, type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const;
  }),
];

const cellOf = (name: Name, row: ExportRow): Cell => {
  const text = EXPORT_COLUMNS[name](row);
  if (text === undefined) return null;
  if (name === 'seq') return BigInt(text);
  if (!TIMES.has(name)) return text;
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? null : time;
};

/** A Parquet file, row group by row group; `created_by` names no version, so that equal rows give equal bytes. */
export const encodeParquet = async function* (rows: AsyncIterable<ExportRow>): AsyncGenerator<Uint8Array> {
  const bytes = new ByteWriter();
  const parquet = new ParquetWriter({ writer: bytes, schema: SCHEMA, createdBy: 'edict' });
  let columns = names.map((): Cell[] => []);
  let count = 0;
  let characters = 0;
  /** What was written since the last time; the writer goes on in an empty buffer, counting from where it was. */
  const take = (): Uint8Array => {
    const taken = Uint8Array.from(bytes.getBytes());
    bytes.index = 0;
    return taken;
  };
  const writeGroup = (): void => {
    void parquet.write({
      columnData: names.map((name, index) => ({ name, data: columns[index] ?? [], offsetIndex: false })),
      rowGroupSize: MAX_ROWS,
    });
    columns = names.map((): Cell[] => []);
    [count, characters] = [0, 0];
  };
  for await (const row of rows) {
    for (const [index, name] of names.entries()) {
      const cell = cellOf(name, row);
      columns[index]?.push(cell);
      characters += typeof cell === 'string' ? cell.length : 8;
    }
    count += 1;
    if (count < MAX_ROWS && characters < MAX_CHARACTERS) continue;
    writeGroup();
    yield take();
  }
  if (count > 0) writeGroup();
  void parquet.finish();
  yield take();
};

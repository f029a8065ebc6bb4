// Appends to the spool in argv[2] as fast as it can and prints each sequence once it is written, until it is killed.
import { writeSync } from 'node:fs';
import { openWriter, record } from './spool-fixture.ts';

const writer = openWriter(process.argv[2] ?? '', {});
let sequence = writer.next();
for (;;) {
  const numbers: bigint[] = [];
  for (let i = 0; i < 10; i += 1) {
    sequence += 1n;
    numbers.push(writer.append(record('acme', sequence, `${sequence}-${'x'.repeat(200)}`)));
  }
  await Promise.all(numbers.map((number) => writer.whenWritten(number)));
  writeSync(1, `${sequence}\n`);
  if (writer.status().freeBytes < 10_000) writer.applyCoverage((_boot, _tenant, last) => last < sequence - 1000n, 1e9);
}

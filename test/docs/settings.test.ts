import { readFileSync } from 'node:fs';
import { Compile } from 'typebox/schema';
import { parse } from 'yaml';
import { settingsDocuments } from '../../scripts/generate-settings.ts';

describe('the settings documents', () => {
  it('are what the schema gives (npx tsx scripts/generate-settings.ts writes them)', async () => {
    for (const [path, text] of await settingsDocuments()) expect(readFileSync(path, 'utf8')).toBe(text);
  });

  it('have a schema that takes what the README shows, and refuses what Edict refuses', () => {
    const schema = Compile(JSON.parse(readFileSync('docs/settings.schema.json', 'utf8')) as object);
    const sample = /```yaml\n(# edict\.yaml\n[^]*?)```/.exec(readFileSync('README.md', 'utf8'))?.[1] ?? '';
    const settings = parse(sample) as object;
    expect(settings).toHaveProperty('kafka.brokers');
    const faults = (value: unknown): readonly string[] => schema.Errors(value)[1].map((fault) => fault.instancePath);
    expect(faults(settings)).toEqual([]);
    expect(faults({})).toEqual([]);
    expect(faults({ ...settings, callers: [{ id: 'gw-1' }] })).toEqual(['/callers/0']);
    expect(faults({ ...settings, pdp: { workers: 0 } })).toEqual(['/pdp/workers']);
  });
});

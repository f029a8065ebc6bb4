import { readFileSync } from 'node:fs';
import { settingsDocuments } from '../../scripts/generate-settings.ts';

describe('the settings documents', () => {
  it('are what the schema gives (npx tsx scripts/generate-settings.ts writes them)', async () => {
    for (const [path, text] of await settingsDocuments()) expect(readFileSync(path, 'utf8')).toBe(text);
  });
});

/** Writes docs/settings.md and docs/settings.schema.json from the one schema of the settings. */
import { writeFileSync } from 'node:fs';
import { format } from 'prettier';
import { SettingsSchema } from '../services/shared/settings/schema.ts';
import { isObject } from '../services/shared/contracts/json.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|');

const variantsOf = (schema: unknown): readonly Readonly<Record<string, unknown>>[] =>
  isObject(schema) && Array.isArray(schema['anyOf']) ? schema['anyOf'].filter(isObject) : [];

/** What bounds a number, or the length of a list: `, 1 to 9`. */
const boundsOf = (least: unknown, most: unknown): string => {
  if (typeof least !== 'number' && typeof most !== 'number') return '';
  if (typeof most !== 'number') return `, ${String(least)} or more`;
  return typeof least === 'number' && least !== most ? `, ${least} to ${most}` : `, ${most} at most`;
};

const typeOf = (schema: Readonly<Record<string, unknown>>): string => {
  if (Array.isArray(schema['anyOf'])) return variantsOf(schema).map(typeOf).join(' or ');
  if (Array.isArray(schema['enum'])) return schema['enum'].map((value) => `\`${String(value)}\``).join(' ');
  if (schema['type'] === 'array') {
    const items = isObject(schema['items']) ? `list of ${typeOf(schema['items'])}` : 'list';
    return `${items}${boundsOf(schema['minItems'], schema['maxItems'])}`;
  }
  if (schema['type'] === 'object') return 'mapping';
  const pattern = typeof schema['pattern'] === 'string' ? schema['pattern'] : '';
  if (pattern.includes('KiB')) return 'size';
  if (pattern.includes('ms|')) return 'duration';
  return `${String(schema['type'])}${boundsOf(schema['minimum'], schema['maximum'])}`;
};

/** The schema of a file as a person writes it: what has a default may be left out. */
const published = (schema: unknown): unknown => {
  if (Array.isArray(schema)) return schema.map(published);
  if (!isObject(schema)) return schema;
  const { required, ...rest } = schema;
  const { properties } = schema;
  const out = Object.fromEntries(
    Object.entries(rest).map(([name, value]) => [name, name === 'default' ? value : published(value)]),
  );
  if (!Array.isArray(required) || !isObject(properties)) return required === undefined ? out : { required, ...out };
  const needed = required.filter((name: unknown) => {
    const member = typeof name === 'string' ? properties[name] : undefined;
    return !isObject(member) || !('default' in member);
  });
  return needed.length === 0 ? out : { required: needed, ...out };
};

const rows = (schema: unknown, path: string): readonly string[] => {
  const variants = variantsOf(schema);
  if (variants.length > 0) return variants.flatMap((variant) => rows(variant, path));
  if (!isObject(schema) || !isObject(schema['properties'])) return [];
  const required = Array.isArray(schema['required']) ? schema['required'] : [];
  return Object.entries(schema['properties']).flatMap(([name, member]) => {
    if (!isObject(member)) return [];
    const here = path === '' ? name : `${path}.${name}`;
    const below = [
      ...rows(member, here),
      ...(isObject(member['items']) ? rows(member['items'], `${here}[]`) : []),
      ...(isObject(member['patternProperties'])
        ? Object.values(member['patternProperties']).flatMap((value) => rows(value, `${here}.*`))
        : []),
    ];
    const isSection = isObject(member['properties']) && 'default' in member;
    if (isSection) return below;
    const value =
      'default' in member ? `\`${JSON.stringify(member['default'])}\`` : required.includes(name) ? 'required' : 'none';
    const description = typeof member['description'] === 'string' ? member['description'] : '';
    return [`| \`${here}\` | ${cell(typeOf(member))} | ${cell(value)} | ${cell(description)} |`, ...below];
  });
};

/** The two generated files, by path. */
export const settingsDocuments = async (): Promise<ReadonlyMap<string, string>> => {
  const markdown = `# Settings

One file, \`edict.yaml\`, named by \`--config\` or \`EDICT_CONFIG\`; without one, the defaults below. Its JSON Schema is
[settings.schema.json](settings.schema.json). Each scalar can be set by the environment variable of its path
(\`pdp.listen\` is \`EDICT_PDP_LISTEN\`; a list of texts is separated by commas). The file is checked whole: all faults are
reported together, each with its JSON pointer; unknown keys, and variables \`EDICT_…\` that nothing reads, are refused. Secrets stand only in files of their own,
whose paths end in \`_file\`; a path in the settings file is relative to that file.

\`edict serve\` also checks, in the same report, that the listeners of what it starts may be opened (beyond loopback only
with \`callers\`) and that the files it reads are there; files of the other service may lie on another machine.

\`callers\`, \`tenants\`, masking keys and the verifier keys for acknowledgements are read again when one of their files
changes and on \`SIGHUP\`, all or nothing. The rest is read at the start: also the database URLs, passwords, certificates
and the other keys.

A **size** is a number with \`B\`, \`KiB\`, \`MiB\` or \`GiB\`; a **duration** one with \`ms\`, \`s\`, \`m\`, \`h\` or \`d\`.

| key | type | default | meaning |
| --- | --- | --- | --- |
${rows(SettingsSchema, '').join('\n')}
`;
  return new Map([
    ['docs/settings.md', await format(markdown, { parser: 'markdown', printWidth: 120 })],
    [
      'docs/settings.schema.json',
      await format(JSON.stringify(published(SettingsSchema)), { parser: 'json', printWidth: 120 }),
    ],
  ]);
};

if (process.argv[1] === import.meta.filename)
  for (const [path, text] of await settingsDocuments()) writeFileSync(path, text);

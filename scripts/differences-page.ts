import { WASM_DIFFERENCES } from '../services/cli/wasm-differences.ts';

/** docs/differences.md, of the one list. */
export const differencesPage = (): string =>
  `# Where a compiled policy differs from OPA's interpreter

Made of \`services/cli/wasm-differences.ts\` by \`npx tsx scripts/generate-schemas.ts\`; not edited by hand.

Edict evaluates what OPA 1.22.2 compiles to WebAssembly. Most of Rego and 98 built-ins are code that OPA puts into each
module, and here that code does otherwise than OPA's own interpreter: \`opa eval\`, \`opa test\`, an OPA server. No host can
mend it; any host of such modules has the same. Each example is evaluated on both sides by a test.

\`edict policy check\` reads the syntax tree and warns of what is listed here, with file, row and column; warnings fail
nothing. By default it names what differs whatever the values are, and counts what depends on values that neither the
tree, nor \`data.json\`, nor the schema of the input tells; \`--all\` names those too ("perhaps"), and \`--json\` always
has both (\`warnings\`, each with \`id\`, \`file\`, \`row\`, \`col\`, \`certain\`). Tests and data that are pushed are not
read. \`edict policy test\` runs the cases of a folder on the compiled module: what they cover needs no warning.

The fuzzer (\`npm run fuzz -- engine\`) passes over these differences by their names, and no others.

${WASM_DIFFERENCES.map(({ id, title, happens, avoid, found, example }) =>
  [
    `<a id="${id}"></a>`,
    '',
    `## \`${id}\`: ${title}`,
    '',
    happens,
    '',
    ...(example === undefined
      ? []
      : [`For example \`${example.rego}\`: interpreter \`${example.interpreter}\`, module \`${example.module}\`.`, '']),
    `- To avoid it: ${avoid}`,
    `- \`edict policy check\` warns of ${found ?? 'nothing here: no syntax tree shows it'}.`,
    '',
  ].join('\n'),
).join('\n')}`;

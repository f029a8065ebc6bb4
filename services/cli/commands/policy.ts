import { statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { engineLimitsFor } from '../../pdp/policy/limits.ts';
import { createWasmEvaluator, DEFAULT_LIMITS, type WasmEvaluator } from '../../pdp/policy/wasm-evaluator.ts';
import { unpackArchive } from '../../shared/bundles/bundle-archive.ts';
import { describeDelta, isDelta } from '../../pdp/policy/bundle-delta.ts';
import { readBundle, type Bundle } from '../../pdp/policy/bundle-reader.ts';
import { runSelfCheck } from '../../pdp/policy/self-check.ts';
import { describeSignature } from '../../pdp/policy/bundle-signature.ts';
import { AppError, isAppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { createRunOpa } from '../opa-binary.ts';
import { replaceFile } from '../replace-file.ts';
import { buildBundle, readBundleFile } from './policy-build.ts';
import { checkDelta, inspectDelta, makeDelta, signatureText } from './policy-delta.ts';
import {
  readArchive,
  signArchive,
  verifyArchive,
  withSigningOptions,
  withVerificationOptions,
  type SigningOptions,
  type VerificationOptions,
} from './policy-sign.ts';
import { readCases, runCases } from './policy-cases.ts';
import { policyReplayCommand } from './policy-replay.ts';
import { createModule, notesOfRoots, rootsOf } from './policy-new.ts';
import { checkPolicies, formatPolicies, measureCoverage, runOpaTests, warnOfPolicies } from './policy-opa.ts';
import { junitXml, testText, warningLines } from './policy-report.ts';

const POLICIES = 'policies';
const BUNDLE = path.join('bundles', 'mesh.tar.gz');
const EXIT_CODES = '\nExit codes: 0 ok, 1 the check failed, 2 usage or environment.';

interface Common {
  readonly policies: string;
  readonly json?: boolean;
}

const wholeNumber = (text: string): number => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('a whole number is needed');
  return value;
};

const NEVER = 'never';
const timeOrNever = (text: string): string => {
  if (text === NEVER) return text;
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/.test(text) || Number.isNaN(Date.parse(text)))
    throw new InvalidArgumentError('a time such as 2027-01-31T00:00:00Z, or never');
  return text;
};

const percentage = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 100)) throw new InvalidArgumentError('a number from 0 to 100');
  return value;
};

/** Prints either the document or its text, and sets the exit code. */
const report = (json: boolean | undefined, passed: boolean, document: object, text: string): void => {
  process.stdout.write(json === true ? `${JSON.stringify(document)}\n` : text === '' ? '' : `${text}\n`);
  if (!passed) process.exitCode = 1;
};

/** Policies that do not compile and files that are no bundle are a failed check, not a wrong call. */
const failing =
  <A extends readonly unknown[]>(action: (...args: A) => Promise<void>) =>
  async (...args: A): Promise<void> => {
    try {
      await action(...args);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'bundle_invalid') throw error;
      const json = args.some((arg) => isObject(arg) && arg['json'] === true);
      const { problems = [error.message] } = error.details;
      if (json) return report(true, false, { passed: false, problems }, '');
      process.stderr.write(`edict: ${error.code}: ${error.message}\n`);
      process.exitCode = 1;
    }
  };

/** Says that the folder is missing before OPA says it in its own words. */
const requireFolder = (folder: string): string => {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new AppError('usage', `there is no folder ${folder}: name it with --policies`);
  }
  return folder;
};

const subcommand = (name: string, description: string): Command =>
  new Command(name)
    .description(description)
    .option('--policies <folder>', 'folder of the Rego sources', POLICIES)
    .option('--json', 'print one JSON document')
    .addHelpText('after', EXIT_CODES);

const noteLines = (notes: readonly string[]): readonly string[] => notes.map((note) => `warning: ${note}`);

const checkCommand = (): Command =>
  subcommand(
    'check',
    'compile strictly against the schemas, check the data, and warn of what OPA compiles to something else',
  )
    .option('--all', 'also warn where it depends on values that the sources do not tell')
    .action(
      failing(async (options: Common & { readonly all?: boolean }) => {
        const [runOpa, folder] = [await createRunOpa(), requireFolder(options.policies)];
        const problems = await checkPolicies(runOpa, folder);
        const passed = problems.length === 0;
        const warnings = passed ? await warnOfPolicies(runOpa, folder) : [];
        const notes = notesOfRoots(await rootsOf(folder), folder);
        const told = [...warningLines(warnings, options.all === true), ...noteLines(notes)];
        const lines = passed ? [...told, 'policies are sound'] : problems;
        report(options.json, passed, { passed, problems, warnings, notes }, lines.join('\n'));
      }),
    );

const fmtCommand = (): Command =>
  subcommand('fmt', 'format Rego files in place')
    .option('--check', 'change nothing; exit 1 when a file is not formatted')
    .action(
      failing(async (options: Common & { readonly check?: boolean }) => {
        const check = options.check === true;
        const files = await formatPolicies(await createRunOpa(), requireFolder(options.policies), { write: !check });
        const verb = check ? 'not formatted' : 'formatted';
        const text = files.map((file) => `${verb}: ${file}`).join('\n');
        report(
          options.json,
          !check || files.length === 0,
          { check, files },
          text === '' ? 'all files are formatted' : text,
        );
      }),
    );

/** As a decision point loads it that has the usual limits. */
const evaluatorOf = (bundle: Bundle): Promise<WasmEvaluator> =>
  createWasmEvaluator({ ...bundle, ...engineLimitsFor(DEFAULT_LIMITS, bundle.limits) });

const testCommand = (): Command =>
  subcommand('test', 'run the Rego tests, then the cases on the engine of production')
    .option('--threshold <percent>', 'least coverage of policy lines', percentage, 95)
    .option('--junit <file>', 'also write JUnit XML')
    .action(
      failing(async (options: Common & { readonly threshold: number; readonly junit?: string }) => {
        const policiesFolder = requireFolder(options.policies);
        const runOpa = await createRunOpa();
        const unit = await runOpaTests(runOpa, policiesFolder);
        const measurable = unit.length > 0 && unit.every((result) => result.passed);
        const coverage = measurable ? await measureCoverage(runOpa, policiesFolder, options.threshold) : undefined;
        const { bundle } = await buildBundle(runOpa, { policiesFolder, previous: undefined });
        const { evaluate, engine } = await evaluatorOf(bundle);
        const results = [...unit, ...runCases(await readCases(policiesFolder), evaluate)];
        if (options.junit !== undefined) await writeFile(options.junit, junitXml(results));
        const failed = results.filter((result) => !result.passed);
        // A run of no tests is no success.
        const covered = coverage !== undefined && coverage.percent >= options.threshold;
        const passed = failed.length === 0 && results.length > 0 && covered;
        const counts = { tests: results.length, passed: results.length - failed.length, failed: failed.length };
        report(options.json, passed, { passed, engine, counts, coverage, results }, testText(results, coverage));
      }),
    );

interface BuildOptions extends Common, SigningOptions {
  readonly output: string;
  readonly sign?: boolean;
  readonly expiresAt?: string;
  readonly cases?: boolean;
  readonly name?: string;
  readonly serial?: number;
  readonly check?: boolean;
}

/** What lies at the output now. A file that is no bundle has no serial to go on from; `--serial` gives one. */
const readPrevious = async ({ output, check, serial }: BuildOptions): Promise<Bundle | undefined> => {
  try {
    return await readBundleFile(output);
  } catch (cause) {
    if (!isAppError(cause) || cause.code !== 'bundle_invalid') throw cause;
    if (check === true || serial !== undefined) return undefined;
    const message = `${output} cannot be read, so its serial is not known (${cause.message}): name one with --serial`;
    throw new AppError('bundle_invalid', message, { cause });
  }
};

const build = async (options: BuildOptions): Promise<void> => {
  const check = options.check === true;
  if (check && options.serial !== undefined)
    throw new AppError('usage', '--check keeps the serial; leave --serial out');
  const sign = options.sign === true;
  if (check && sign) throw new AppError('usage', '--check writes nothing; leave --sign out');
  if (!sign && options.signingKey !== undefined) throw new AppError('usage', '--signing-key is for --sign');
  const previous = await readPrevious(options);
  const { name, serial } = options;
  const built = await buildBundle(await createRunOpa(), {
    policiesFolder: requireFolder(options.policies),
    previous,
    ...(name === undefined ? {} : { name }),
    ...(serial === undefined ? {} : { serial }),
    ...(options.cases === undefined ? {} : { withCases: options.cases }),
    ...(options.expiresAt === undefined ? {} : { expiresAt: options.expiresAt === NEVER ? null : options.expiresAt }),
  });
  // What production would refuse is not written.
  await runSelfCheck(built.bundle, await evaluatorOf(built.bundle));
  const { digest, expiresMs } = built.bundle;
  if (!check && expiresMs !== undefined && expiresMs <= Date.now()) {
    const time = new Date(expiresMs).toISOString();
    throw new AppError('usage', `the bundle expires at ${time}, which is past: name a time to come with --expires-at`);
  }
  const notes = notesOfRoots(built.bundle.roots, options.policies);
  const facts = { output: options.output, name: built.bundle.name, serial: built.bundle.serial, digest };
  if (check) {
    const text = built.changed
      ? `${options.output} is not what ${options.policies} gives: run 'edict policy build'`
      : `${options.output} is what ${options.policies} gives (${digest})`;
    return report(options.json, !built.changed, { ...facts, current: !built.changed, there: previous?.digest }, text);
  }
  // The signature is no part of the digest: whoever asks for one gets it, changed or not.
  const archive = sign ? await signArchive(built.archive, options) : built.archive;
  if (built.changed || sign) await replaceFile(options.output, archive);
  const what = `${built.changed ? 'built' : 'unchanged'}${sign ? ', signed' : ''}`;
  report(
    options.json,
    true,
    { ...facts, changed: built.changed, signed: sign, notes },
    [...noteLines(notes), `${what}: ${facts.name} ${facts.serial} ${digest}`].join('\n'),
  );
};

const buildCommand = (): Command =>
  withSigningOptions(
    subcommand('build', 'build the bundle that a decision point loads')
      .option('-o, --output <file>', 'the bundle', BUNDLE)
      .option('--name <name>', 'name of the bundle (default: that of the bundle at --output, else mesh)')
      .option('--serial <n>', 'serial (default: one more than at --output when the content changed)', wholeNumber)
      .option(
        '--expires-at <time>',
        'RFC 3339, UTC, or never: when it permits nothing more (default: as now)',
        timeOrNever,
      )
      .option('--check', 'write nothing; exit 1 when the bundle at --output is not what the policies give')
      .option('--cases', 'put cases/*.json into it: whoever loads it evaluates them first (default: as now)')
      .option('--no-cases', 'leave them out')
      .option('--sign', 'sign it, with --signing-key'),
  ).action(failing(build));

const onBundle = (name: string, description: string): Command =>
  new Command(name)
    .description(description)
    .argument('[bundle]', 'the bundle', BUNDLE)
    .option('--json', 'print one JSON document')
    .addHelpText('after', EXIT_CODES);

/** A delta has no digest of its own: what it makes of its base has. */
const identityOf = async (
  archive: Uint8Array,
): Promise<{ readonly name: string; readonly serial: number; readonly digest?: string }> => {
  if (!(await isDelta(archive))) return await readBundle(archive);
  return describeDelta(await unpackArchive(archive));
};

const signCommand = (): Command =>
  withSigningOptions(
    onBundle('sign', 'sign a bundle as `opa build` does').option('-o, --output <file>', 'default: the bundle itself'),
  ).action(
    failing(async (file: string, options: SigningOptions & { readonly output?: string; readonly json?: boolean }) => {
      const archive = await readArchive(file);
      const { name, serial, digest } = await identityOf(archive);
      const { output = file } = options;
      const signed = await signArchive(archive, options);
      await replaceFile(output, signed);
      const signature = describeSignature(await unpackArchive(signed));
      const text = `signed: ${name} ${serial} ${digest ?? 'delta'} (key ${String(signature?.kid)}, ${String(signature?.alg)})`;
      report(options.json, true, { output, name, serial, digest, signature }, text);
    }),
  );

interface InspectOptions extends VerificationOptions {
  readonly json?: boolean;
  readonly base?: string;
}

const inspect = async (file: string, options: InspectOptions): Promise<void> => {
  const archive = await readArchive(file);
  const verified = await verifyArchive(archive, options);
  if (await isDelta(archive)) {
    const base = options.base === undefined ? undefined : await readArchive(options.base);
    const { document, text } = await inspectDelta(archive, verified, base);
    return report(options.json, true, document, text);
  }
  if (options.base !== undefined) throw new AppError('usage', `--base is for deltas, and ${file} is none`);
  const bundle = await readBundle(archive);
  const { hostBuiltins, entrypoints, engine } = await evaluatorOf(bundle);
  const { name, serial, digest, manifest } = bundle;
  const claimed = describeSignature(bundle.files);
  const signature = claimed === undefined ? undefined : { ...claimed, verified: verified !== undefined };
  const files = bundle.files.map(({ path: each, bytes }) => ({ path: each, bytes: bytes.length }));
  const document = { name, serial, digest, engine, entrypoints, builtins: hostBuiltins, manifest, signature, files };
  const text = [
    `name         ${name}`,
    `serial       ${serial}`,
    `digest       ${digest}`,
    `expires      ${manifest.metadata.edict.expires_at ?? 'never'}`,
    `limits       ${manifest.metadata.edict.limits === undefined ? 'those of its tenants' : JSON.stringify(manifest.metadata.edict.limits)}`,
    `signature    ${signatureText(claimed, verified)}`,
    `entrypoints  ${entrypoints.join(', ')}`,
    `built-ins    ${hostBuiltins.length === 0 ? 'none from the host' : hostBuiltins.join(', ')}`,
    `roots        ${(manifest.roots ?? ['']).join(', ')}`,
    'files',
    ...files.map((each) => `  ${String(each.bytes).padStart(9)}  ${each.path}`),
  ].join('\n');
  report(options.json, true, document, text);
};

const inspectCommand = (): Command =>
  withVerificationOptions(
    onBundle('inspect', 'show what is in a bundle or a delta, and verify its signature').option(
      '--base <file>',
      'of a delta: the bundle that it is for, to show the digest of what comes out',
    ),
  ).action(failing(inspect));

interface DeltaOptions extends SigningOptions {
  readonly from: string;
  readonly to: string;
  readonly output: string;
  readonly sign?: boolean;
  readonly json?: boolean;
}

const delta = async (options: DeltaOptions): Promise<void> => {
  const { output, sign = false } = options;
  if (!sign && options.signingKey !== undefined) throw new AppError('usage', '--signing-key is for --sign');
  const from = await readBundle(await readArchive(options.from));
  const to = await readBundle(await readArchive(options.to));
  const made = await makeDelta(from, to);
  const archive = sign ? await signArchive(made, options) : made;
  await checkDelta(from, archive, to);
  await replaceFile(output, archive);
  const { operations } = describeDelta(await unpackArchive(archive));
  const { name, serial, digest } = to;
  const counts = { operations: operations.length, bytes: archive.length };
  const facts = { output, name, serial, base: from.digest, digest, ...counts, signed: sign };
  const what = `${counts.operations} operations, ${counts.bytes} bytes${sign ? ', signed' : ''}`;
  report(options.json, true, facts, `delta: ${name} ${from.serial} to ${serial} ${digest} (${what})`);
};

const deltaCommand = (): Command =>
  withSigningOptions(
    new Command('delta')
      .description('write what changes the data of one bundle into that of another, for those who have the first')
      .requiredOption('--from <file>', 'the bundle that decision points have')
      .requiredOption('--to <file>', 'the bundle that they shall have')
      .requiredOption('-o, --output <file>', 'the delta')
      .option('--json', 'print one JSON document')
      .option('--sign', 'sign it, with --signing-key')
      .addHelpText('after', EXIT_CODES),
  ).action(failing(delta));

const newCommand = (): Command =>
  subcommand('new', 'write a new rule module with its tests')
    .argument('<package>', 'package path, for example mesh/approval')
    .action(async (packagePath: string, options: Common) => {
      const files = await createModule(options.policies, packagePath);
      const name = packagePath.replaceAll('/', '.');
      const wiring = [
        'Nothing reads it yet; in edict/edict.rego add',
        `  import data.${name}`,
        `  _vetoes contains reason if some reason in ${name.split('.').at(-1)}.deny`,
      ];
      report(options.json, true, { files }, [...files.map((file) => `wrote ${file}`), ...wiring].join('\n'));
    });

/** `edict policy …`: everything between an edited Rego file and a bundle that a decision point loads. */
export const policyCommand = (): Command => {
  const policy = new Command('policy').description('check, test, build, sign and inspect policies');
  const parts = [
    checkCommand,
    fmtCommand,
    testCommand,
    buildCommand,
    signCommand,
    inspectCommand,
    deltaCommand,
    newCommand,
    policyReplayCommand,
  ];
  for (const part of parts.map((make) => make())) policy.addCommand(part);
  return policy.addHelpText('after', EXIT_CODES);
};

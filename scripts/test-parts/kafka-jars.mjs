// Fetches the jars of a real Kafka broker with Maven and writes down where they are.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cacheFolder, outputOf, root, run, say, SetupError, step } from './run.mjs';

const pomFile = path.join(root, 'test', 'support', 'kafka', 'pom.xml');

/** Read by test/support/kafka.ts: `{java, lib, classArchive}`. */
const recordFile = path.join(cacheFolder, 'test-parts', 'kafka.json');

const oldestJava = 17;

/** The Java command, with the full version, by which class archives are kept apart. */
function findJava() {
  const home = process.env['JAVA_HOME'];
  for (const java of [...(home ? [path.join(home, 'bin', 'java')] : []), 'java']) {
    const version = outputOf(java, ['-version'])?.match(/version "([^"]+)"/)?.[1];
    if (version !== undefined && Number(version.split('.')[0]) >= oldestJava) return { java, version };
  }
  throw new SetupError(
    `the tests start a real Kafka broker: Java ${oldestJava} or later is needed (on PATH or JAVA_HOME)`,
  );
}

/** Leaves a record of a folder with all jars, and an archive of their classes for a faster start. */
export async function prepareKafka() {
  const { java, version } = findJava();
  const hash = createHash('sha256').update(readFileSync(pomFile)).digest('hex').slice(0, 16);
  const folder = path.join(cacheFolder, `kafka-${hash}`);
  const lib = path.join(folder, 'lib');
  if (!existsSync(lib)) {
    if (outputOf('mvn', ['-v']) === undefined) {
      throw new SetupError('the tests start a real Kafka broker: Maven (mvn) is needed to fetch its jars');
    }
    const unfinished = path.join(folder, `lib.unfinished-${process.pid}`);
    mkdirSync(folder, { recursive: true });
    const copy = [`-DoutputDirectory=${unfinished}`, '-DincludeScope=runtime'];
    await step('fetching the jars of Kafka', () =>
      run('mvn', ['-q', '-B', '-f', pomFile, 'dependency:copy-dependencies', ...copy], { cwd: folder }),
    );
    rmSync(lib, { recursive: true, force: true });
    renameSync(unfinished, lib);
  }
  const classArchive = path.join(folder, `kafka-java-${version}.jsa`);
  mkdirSync(path.dirname(recordFile), { recursive: true });
  writeFileSync(`${recordFile}.new`, `${JSON.stringify({ java, lib, classArchive }, undefined, 2)}\n`);
  renameSync(`${recordFile}.new`, recordFile);
  if (!existsSync(classArchive)) {
    const unfinished = `${classArchive}.unfinished-${process.pid}`;
    await step('writing the class archive of Kafka', () =>
      run(process.execPath, [
        '--import',
        'tsx',
        path.join('test', 'support', 'kafka', 'write-class-archive.ts'),
        unfinished,
      ]),
    );
    renameSync(unfinished, classArchive);
  }
  say(`Kafka: ${lib}`);
}

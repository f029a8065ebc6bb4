import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createWitness, type Answer } from '../../services/witness/core/witness.ts';
import { openWitnessFolder, type WitnessFolder } from '../../services/witness/state/folder.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../services/shared/contracts/signatures.ts';
import { realReplaceFs, type ReplaceFs } from '../../services/shared/spool/files.ts';
import { formatWitnessVkey, openCosignatures } from '../../services/shared/tlog/cosignature.ts';
import { createTestLog } from './test-log.ts';

const log = createTestLog('log.example/state');

describe('the folder of a witness', () => {
  let folder: string;
  let opened: WitnessFolder[];
  const state = (): string => path.join(folder, 'state');
  const checkpointFile = (): string => path.join(state(), 'logs', readdirSync(path.join(state(), 'logs'))[0] ?? '');
  const open = async (options: { readonly name?: string; readonly fs?: ReplaceFs } = {}) => {
    const found = await openWitnessFolder({ folder: state(), name: undefined, origins: [log.origin], ...options });
    opened.push(found);
    return found;
  };
  const closeAll = async (): Promise<void> => {
    for (const each of opened.splice(0)) await each.close();
  };
  const witnessIn = (found: WitnessFolder): ((body: Uint8Array) => Answer) =>
    createWitness({ ...found, logs: new Map([[log.origin, [parseVkey(log.vkey)]]]), nowS: () => 1_767_225_600 })
      .addCheckpoint;
  const ask = async (found: WitnessFolder, from: number, size: number, history?: string): Promise<Answer> =>
    witnessIn(found)(await log.request(from, size, history));

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'edict-witness-state-'));
    opened = [];
  });
  afterEach(async () => {
    await closeAll();
    rmSync(folder, { recursive: true, force: true });
  });

  it('gets a key that only its owner reads, a name, and the public half for all', async () => {
    const { witness } = await open();
    expect(statSync(path.join(state(), 'witness.pem')).mode & 0o777).toBe(0o600);
    expect(statSync(path.join(state(), 'witness.vkey')).mode & 0o777).toBe(0o644);
    expect(readFileSync(path.join(state(), 'witness.vkey'), 'utf8')).toBe(
      `${formatWitnessVkey(witness.name, witness.publicKey)}\n`,
    );
    expect(witness.name).toMatch(/^witness\/[0-9a-f]{16}$/);
    await closeAll();
    expect((await open()).witness).toEqual(witness);
  });

  it('keeps the name that it was given first', async () => {
    expect((await open({ name: 'witness.example/w1' })).witness.name).toBe('witness.example/w1');
    await closeAll();
    expect((await open()).witness.name).toBe('witness.example/w1');
    await closeAll();
    await expect(open({ name: 'witness.example/w2' })).rejects.toMatchObject({ code: 'usage' });
    rmSync(state(), { recursive: true });
    await expect(open({ name: 'with space' })).rejects.toMatchObject({ code: 'usage' });
  });

  it('remembers after a restart: a note that log and witness signed', async () => {
    const before = await open();
    await ask(before, 0, 5);
    const note = readFileSync(checkpointFile());
    expect(note.subarray(0, log.note(5).length)).toEqual(log.note(5));
    expect(openCosignatures(note, [before.witness])).toHaveLength(1);
    writeFileSync(`${checkpointFile()}.0123456789ab.tmp`, 'what a killed process left');
    await closeAll();
    const after = await open();
    expect(await ask(after, 0, 3, 'b')).toMatchObject({ status: 409, size: 5n });
    expect(await ask(after, 5, 5, 'b')).toMatchObject({ status: 422, isFork: true, seen: note.toString('utf8') });
    expect(await ask(after, 5, 8)).toMatchObject({ status: 200, size: 8n });
    expect(readdirSync(path.join(state(), 'logs'))).toHaveLength(1);
  });

  it('keeps of a note what it could check, however much stands in it', async () => {
    const found = await open();
    const more = '— someone.example/else AAAAAAECAwQ=\n'.repeat(60);
    expect(witnessIn(found)(Buffer.concat([await log.request(0, 5), Buffer.from(more)]))).toMatchObject({
      status: 200,
    });
    expect(readFileSync(checkpointFile(), 'utf8')).not.toContain('someone.example');
  });

  const faults: readonly (keyof ReplaceFs)[] = ['create', 'write', 'sync', 'rename', 'syncFolder'];
  it.each(faults)('gives no cosignature when %s fails, and goes on when it does not any more', async (operation) => {
    let isFailing = false;
    const fs: ReplaceFs = {
      ...realReplaceFs,
      [operation]: (...args: never[]) => {
        if (isFailing) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
        return (realReplaceFs[operation] as (...values: never[]) => unknown)(...args);
      },
    };
    const found = await open({ fs });
    await ask(found, 0, 5);
    isFailing = true;
    await expect(ask(found, 5, 8)).rejects.toMatchObject({ code: 'witness_failed' });
    expect(found.failure()).toContain('ENOSPC');
    isFailing = false;
    // Nobody has a cosignature of size 8: another tree may follow the one of size 5, and must follow it.
    expect(await ask(found, 5, 9)).toMatchObject({ status: 200 });
    expect(found.failure()).toBeUndefined();
    await closeAll();
    expect(await ask(await open(), 9, 20)).toMatchObject({ status: 200 });
  });

  it('belongs to one process', async () => {
    const first = await open();
    await expect(open()).rejects.toMatchObject({ code: 'witness_failed', message: expect.stringContaining('another') });
    expect(await ask(first, 0, 5)).toMatchObject({ status: 200 });
  });

  it.each<readonly [string, () => void]>([
    ['a checkpoint was changed', () => writeFileSync(checkpointFile(), log.note(3))],
    ['a checkpoint is cut', () => writeFileSync(checkpointFile(), readFileSync(checkpointFile()).subarray(0, 40))],
    ['a checkpoint is of another log', () => writeFileSync(checkpointFile(), createTestLog('b.example').note(5))],
    ['a checkpoint is gone', () => rmSync(checkpointFile())],
    ['the list of logs is gone', () => rmSync(path.join(state(), 'origins'))],
    [
      'nothing but the key and the list of logs is left',
      () => {
        rmSync(checkpointFile());
        rmSync(path.join(state(), 'witness.vkey'));
      },
    ],
    ['the checkpoints are gone', () => rmSync(path.join(state(), 'logs'), { recursive: true })],
    ['the key is gone', () => rmSync(path.join(state(), 'witness.pem'))],
    ['the verifier key is gone', () => rmSync(path.join(state(), 'witness.vkey'))],
    ['the key is another', () => writeFileSync(path.join(state(), 'witness.pem'), generateSigningKey().pem)],
    ['the key is none', () => writeFileSync(path.join(state(), 'witness.pem'), 'noise')],
    [
      'the verifier key is of a log',
      () => writeFileSync(path.join(state(), 'witness.vkey'), formatVkey('w', generateSigningKey().key.publicKey)),
    ],
    [
      'it is no folder',
      () => {
        renameSync(state(), path.join(folder, 'away'));
        writeFileSync(state(), '');
      },
    ],
  ])('is not used when %s', async (_name, damage) => {
    await ask(await open(), 0, 5);
    await closeAll();
    damage();
    await expect(open()).rejects.toMatchObject({ code: 'witness_failed' });
  });

  it('is used when a log is not watched any more, or was never cosigned', async () => {
    const other = createTestLog('b.example');
    await ask(await open(), 0, 5);
    await closeAll();
    const found = await openWitnessFolder({ folder: state(), name: undefined, origins: [other.origin] });
    opened.push(found);
    await closeAll();
    expect(await ask(await open(), 0, 3)).toMatchObject({ status: 409, size: 5n });
  });

  it('goes on when it was killed before it had listed a log: nobody has a cosignature of it', async () => {
    await ask(await open(), 0, 5);
    await closeAll();
    writeFileSync(path.join(state(), 'origins'), '');
    expect(await ask(await open(), 0, 3)).toMatchObject({ status: 409, size: 5n });
    await closeAll();
    rmSync(checkpointFile());
    await expect(open()).rejects.toMatchObject({ code: 'witness_failed' });
  });

  it('is made again when the first start was broken off before there was a verifier key', async () => {
    mkdirSync(path.join(state(), 'logs'), { recursive: true });
    writeFileSync(path.join(state(), 'witness.pem'), generateSigningKey().pem);
    expect(await ask(await open(), 0, 5)).toMatchObject({ status: 200 });
  });
});

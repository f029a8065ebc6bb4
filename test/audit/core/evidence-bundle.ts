/** Takes evidence bundles apart and puts them together again, as whoever forges one would. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { verifyEvidence, type EvidenceReport } from '../../../services/audit/core/verify-evidence.ts';
import { hasFailed, VERDICTS } from '../../../services/audit/core/verify-report.ts';
import { parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { verifyWithPython } from '../../support/python.ts';

export interface TarMember {
  name: string;
  bytes: Buffer;
}

const BLOCK = 512;

/** The members of a well-formed archive. */
export const membersOf = (tar: Buffer): TarMember[] => {
  const members: TarMember[] = [];
  for (let at = 0; tar[at] !== 0;) {
    const name = tar.toString('latin1', at, tar.indexOf(0, at));
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 135), 8);
    members.push({ name, bytes: tar.subarray(at + BLOCK, at + BLOCK + size) });
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return members;
};

/** ustar, as `tar --format=ustar --mtime=@0 --owner=0 --group=0 --mode=644` writes it; `type` as in the header. */
export const tarMember = ({ name, bytes }: TarMember, type = '0'): Buffer => {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0);
  header.write('0000644\0', 100);
  header.write('0000000\0'.repeat(2), 108);
  header.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write(`${type}${''.padEnd(100, '\0')}ustar\x0000`, 156);
  header.write('0000000\0'.repeat(2), 329);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);
};

export const tarOf = (members: readonly TarMember[]): Buffer =>
  Buffer.concat([...members.map((member) => tarMember(member)), Buffer.alloc(2 * BLOCK)]);

export type Json = Record<string, unknown>;

export const jsonOf = (bytes: Buffer): Json => JSON.parse(bytes.toString('utf8')) as Json;

/** A bundle whose parts can be changed; `bytes` puts it together with a manifest that fits its members again. */
export const openBundle = (tar: Buffer) => {
  const members = membersOf(tar);
  const of = (name: string): TarMember => {
    const member = members.find((each) => each.name === name);
    if (member === undefined) throw new Error(`no member ${name}`);
    return member;
  };
  const manifest = of('manifest.json');
  const entries = of('entries/00000001.ndjson');
  const put = (member: TarMember, value: unknown): void => {
    member.bytes = Buffer.from(`${JSON.stringify(value)}\n`);
  };
  return {
    members,
    of,
    about: (): Json => jsonOf(of('about.json').bytes),
    setAbout: (change: Json): void => put(of('about.json'), { ...jsonOf(of('about.json').bytes), ...change }),
    manifest: (): Json => jsonOf(manifest.bytes),
    setManifest: (change: Json): void => put(manifest, { ...jsonOf(manifest.bytes), ...change }),
    lines: (): Json[] =>
      entries.bytes
        .toString('utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Json),
    setLines: (lines: readonly unknown[]): void => {
      entries.bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    },
    /** As somebody writes it who knows the format: digests, sizes and counts fit what is there. */
    mended: (): Buffer => {
      const listed = members.filter((member) => member !== manifest);
      const lines = entries.bytes
        .toString('utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as Json);
      const gone = lines.filter((line) => 'gone' in line).length;
      put(manifest, {
        ...jsonOf(manifest.bytes),
        counts: {
          entries: String(lines.length),
          payloads: String(lines.length - gone),
          gone: String(gone),
          checkpoints: String(lines.filter((line) => 'checkpoint' in line).length),
        },
        members: listed.map(({ name, bytes }) => ({
          name,
          bytes: String(bytes.length),
          sha256: createHash('sha256').update(bytes).digest('hex'),
        })),
      });
      return tarOf(members);
    },
    /** With the manifest as it is. */
    bytes: (): Buffer => tarOf(members),
  };
};

/** The verdicts by their names. */
export const statusesOf = ({ report }: EvidenceReport): Readonly<Record<string, string>> =>
  Object.fromEntries(VERDICTS.map((name) => [name, report.verdicts[name].status]));

const chunked = async function* (bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1_000) yield bytes.subarray(at, at + 1_000);
};

/**
 * What both verifiers say of a bundle, with the verifier key line that the auditor brings; `folder`: for their files.
 * Rejects when the second one has other verdicts.
 */
export const verifyTwice = async (bytes: Buffer, folder: string, line?: string): Promise<EvidenceReport> => {
  const key = line === undefined ? undefined : parseVkey(line);
  const found = await verifyEvidence(chunked(bytes), {
    ...(key === undefined ? {} : { keys: new Map([[key.name, key]]) }),
    now: Date.now,
  });
  const [file, vkeyFile] = [path.join(folder, 'bundle.tar'), path.join(folder, 'log.vkey')];
  writeFileSync(file, bytes);
  if (line !== undefined) writeFileSync(vkeyFile, `${line}\n`);
  const second = await verifyWithPython(file, line === undefined ? undefined : vkeyFile);
  const verdicts = statusesOf(found);
  if (!isDeepStrictEqual(second.verdicts, verdicts) || second.code !== (hasFailed(found.report) ? 1 : 0))
    throw new Error(`the verifiers disagree: ${JSON.stringify(verdicts)}, exit ${second.code} of ${second.said}`);
  return found;
};

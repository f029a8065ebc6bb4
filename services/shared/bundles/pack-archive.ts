import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { pack } from 'tar-stream';
import type { BundleFile } from '../contracts/bundle-digest.ts';

const compress = promisify(gzip);

const EPOCH = new Date(0);

/** Packs files into a tar.gz that depends on nothing but them: sorted, no times, no owners. */
export const packArchive = async (files: readonly BundleFile[]): Promise<Buffer> => {
  const tar = pack();
  const sorted = [...files].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
  for (const { path: name, bytes } of sorted) {
    tar.entry({ name: `/${name}`, mode: 0o644, mtime: EPOCH, uid: 0, gid: 0, size: bytes.length }, Buffer.from(bytes));
  }
  tar.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of tar) chunks.push(chunk as Uint8Array);
  const archive = await compress(Buffer.concat(chunks), { level: 9 });
  // Byte 9 of a gzip header names the operating system (RFC 1952); 255 is "unknown".
  archive[9] = 255;
  return archive;
};

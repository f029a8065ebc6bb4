import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Writes a file so that a reader sees the old one or the new one, never a part. */
export const replaceFile = async (file: string, bytes: Uint8Array): Promise<void> => {
  await mkdir(path.dirname(file), { recursive: true });
  const scratch = `${file}.${randomUUID()}.tmp`;
  try {
    const handle = await open(scratch, 'wx', 0o644);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(scratch, file);
  } finally {
    await rm(scratch, { force: true });
  }
};

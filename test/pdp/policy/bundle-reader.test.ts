import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { packageFolder } from '../../../services/cli/opa-binary.ts';
import { BUNDLE_LIMITS } from '../../../services/shared/bundles/bundle-archive.ts';
import { readBundle, type Bundle } from '../../../services/pdp/policy/bundle-reader.ts';
import { packArchive } from '../../../services/shared/bundles/pack-archive.ts';
import { bundleDigest, setDigest } from '../../../services/shared/contracts/bundle-digest.ts';
import { altered, tarOf } from './make-bundles.ts';

const demo = await readFile(path.join(packageFolder(), 'bundles', 'mesh.tar.gz'));
const refusal = (archive: Uint8Array, limits = BUNDLE_LIMITS) =>
  readBundle(archive, limits).then(
    () => 'was read',
    (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
  );

describe('a bundle', () => {
  let bundle: Bundle;
  beforeAll(async () => {
    bundle = await readBundle(demo);
  });

  it('is read with name, serial, data, module and entrypoint', () => {
    expect(bundle.name).toBe('mesh');
    expect(bundle.serial).toBeGreaterThanOrEqual(1);
    expect(JSON.parse(Buffer.from(bundle.dataJson).toString())).toHaveProperty('directory.subjects.user.alice');
    expect(Buffer.from(bundle.wasm.subarray(0, 4)).toString('latin1')).toBe('\0asm');
  });

  it('has the digest of its sorted paths and contents, written out by hand', () => {
    const hash = createHash('sha256').update('edict/bundle/v1\0');
    const files = bundle.files.map(({ path: name, bytes }) => ({ name: Buffer.from(name), bytes }));
    files.sort((a, b) => Buffer.compare(a.name, b.name));
    for (const { name, bytes } of files) {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(name.length);
      hash.update(length).update(name).update(createHash('sha256').update(bytes).digest());
    }
    expect(bundle.digest).toBe(`sha256:${hash.digest('hex')}`);
  });

  it('keeps its digest when it is packed in another way or signed', async () => {
    const reversed = [...bundle.files].reverse().map(({ path: name, bytes }) => ({ name: `./${name}`, bytes }));
    const plain = [...bundle.files].map(({ path: name, bytes }) => ({ name, bytes }));
    expect((await readBundle(await tarOf(reversed))).digest).toBe(bundle.digest);
    expect((await readBundle(await tarOf(plain))).digest).toBe(bundle.digest);
    expect((await readBundle(await altered(bundle.files, { '.signatures.json': '{}' }))).digest).toBe(bundle.digest);
    expect((await readBundle(await altered(bundle.files, { 'data.json': '{}' }))).digest).not.toBe(bundle.digest);
  });

  it('has a set digest that does not depend on the order of the set', () => {
    const one = Buffer.alloc(32, 1);
    const two = Buffer.alloc(32, 2);
    const expected = createHash('sha256').update('edict/set/v1\0').update(one).update(two).digest();
    expect(setDigest([two, one]).equals(expected)).toBe(true);
    expect(setDigest([one]).equals(createHash('sha256').update('edict/set/v1\0').update(one).digest())).toBe(true);
  });

  it('has no digest when a path stands twice', () => {
    const twice = [
      { path: 'a', bytes: Buffer.from('1') },
      { path: 'a', bytes: Buffer.from('2') },
    ];
    expect(() => bundleDigest(twice)).toThrow('twice');
  });

  it('tells roots and expiry', async () => {
    expect(bundle).toMatchObject({ roots: ['edict', 'mesh', 'directory'], expiresMs: undefined });
    const edict = { name: 'mesh', serial: 1, expires_at: '2027-01-01T00:00:00Z' };
    const { roots: _roots, ...rest } = { ...bundle.manifest, metadata: { edict } };
    const read = await readBundle(await altered(bundle.files, { '.manifest': JSON.stringify(rest) }));
    expect(read).toMatchObject({ roots: [''], expiresMs: Date.UTC(2027, 0, 1) });
  });

  it('merges data of folders under their path', async () => {
    const archive = await altered(bundle.files, { 'directory/extra/data.json': '{"x": 1}' });
    const merged = JSON.parse(Buffer.from((await readBundle(archive)).dataJson).toString()) as object;
    expect(merged).toHaveProperty('directory.extra.x', 1);
    expect(merged).toHaveProperty('directory.subjects.user.alice');
  });

  it('keeps numbers of merged data as they were written', async () => {
    const numbers = '"n":[12345678901234567890,1e400,0.1234567890123456789]';
    const archive = await altered(bundle.files, { 'directory/extra/data.json': `{${numbers}}` });
    expect(Buffer.from((await readBundle(archive)).dataJson).toString()).toContain(numbers);
  });

  it.each([
    ['no .manifest', { '.manifest': undefined }, 'no .manifest'],
    ['a .manifest that is no JSON', { '.manifest': '{' }, '.manifest is not UTF-8 JSON'],
    ['a .manifest that is not UTF-8', { '.manifest': Buffer.from([0x7b, 0xff, 0x7d]) }, '.manifest is not UTF-8 JSON'],
    ['a .manifest without name and serial', { '.manifest': '{"wasm":[{"entrypoint":"a","module":"b"}]}' }, 'metadata'],
    ['no policy.wasm', { 'policy.wasm': undefined }, 'bundle has no "/policy.wasm"'],
    ['data that is no JSON', { 'data.json': '{"a":01}' }, 'data.json is not UTF-8 JSON'],
    ['data that starts with a byte order mark', { 'data.json': '\ufeff{}' }, 'data.json is not UTF-8 JSON'],
    ['data that is no object', { 'data.json': '[]' }, 'data.json is not a JSON object'],
    ['data as YAML', { 'data.yaml': 'a: 1' }, 'data.yaml'],
    ['two data files with one value', { 'directory/subjects/data.json': '{"user": 1}' }, '"user"'],
    ['a delta', { 'patch.json': '{}' }, 'delta'],
  ])('with %s is refused', async (_what, changes, expected) => {
    const said = await refusal(await altered(bundle.files, changes));
    expect(said).toMatch(/^bundle_invalid: /);
    expect(said).toContain(expected);
  });

  it.each([
    ['another entrypoint', { wasm: [{ entrypoint: 'edict/allow', module: '/policy.wasm' }] }, 'edict/decide'],
    ['no entrypoint', { wasm: [] }, '/wasm'],
    ['a negative serial', { metadata: { edict: { name: 'mesh', serial: -1 } } }, 'serial'],
    ['a serial that a number cannot hold', { metadata: { edict: { name: 'mesh', serial: 2 ** 53 } } }, 'serial'],
    ['a serial that is a text', { metadata: { edict: { name: 'mesh', serial: '1' } } }, 'serial'],
    ['roots that overlap', { roots: ['mesh', 'directory', 'edict', 'mesh/legs'] }, 'overlap: ["mesh","mesh/legs"]'],
    ['roots that are everything and more', { roots: ['', 'edict'] }, 'overlap: ["","edict"]'],
    ['roots without its data', { roots: ['mesh', 'edict'] }, 'do not permit data at /directory'],
    ['roots below its data', { roots: ['mesh', 'edict', 'directory/subjects'] }, 'do not permit data at /directory/'],
    ['roots without its entrypoint', { roots: ['mesh', 'directory'] }, 'do not permit the entrypoint edict/decide'],
    ['roots that only begin alike', { roots: ['mes', 'director', 'edict'] }, 'do not permit data at /directory'],
    [
      'an expiry that is no time',
      { metadata: { edict: { name: 'mesh', serial: 1, expires_at: '2026-13-01T00:00:00Z' } } },
      'no time',
    ],
    [
      'an expiry in local time',
      { metadata: { edict: { name: 'mesh', serial: 1, expires_at: '2026-01-01 00:00' } } },
      'expires_at',
    ],
    ['a member that nobody knows', { metadata: { edict: { name: 'mesh', serial: 1, limit: {} } } }, '/metadata/edict '],
    [
      'a limit that nobody knows',
      { metadata: { edict: { name: 'mesh', serial: 1, limits: { memory: '1MiB' } } } },
      '/metadata/edict/limits ',
    ],
    [
      'a limit that is no size',
      { metadata: { edict: { name: 'mesh', serial: 1, limits: { policy_memory: 'small' } } } },
      '/metadata/edict/limits/policy_memory',
    ],
    ['a name that is none', { metadata: { edict: { name: '../mesh', serial: 1 } } }, 'name'],
  ])('whose .manifest has %s is refused', async (_what, change, expected) => {
    const manifest = JSON.stringify({ ...bundle.manifest, ...change });
    const said = await refusal(await altered(bundle.files, { '.manifest': manifest }));
    expect(said).toMatch(/^bundle_invalid: /);
    expect(said).toContain(expected);
  });
});

describe('an archive', () => {
  it.each([
    ['is empty', Buffer.alloc(0)],
    ['is no gzip data', Buffer.from('not a bundle')],
    ['is cut off', demo.subarray(0, demo.length - 100)],
    ['is cut off near its start', demo.subarray(0, 40)],
    ['is gzip of something else', gzipSync('not a tar stream, but long enough to look like one'.repeat(40))],
    ['is gzip of nothing', gzipSync('')],
  ])('that %s is refused', async (_what, archive) => {
    expect(await refusal(archive)).toMatch(/^bundle_invalid: /);
  });

  it('that has one byte changed anywhere is refused or has another digest', async () => {
    const { digest } = await readBundle(demo);
    for (let at = 0; at < demo.length; at += Math.ceil(demo.length / 40)) {
      const changed = Buffer.from(demo);
      changed[at] = (changed[at] ?? 0) ^ 0x55;
      const outcome = await readBundle(changed).then(
        (bundle) => bundle.digest,
        (error: { code: string }) => error.code,
      );
      // Header bytes such as the time say nothing about the files.
      if (at >= 10) expect(outcome).toBe('bundle_invalid');
      else expect([digest, 'bundle_invalid']).toContain(outcome);
    }
  });

  it('that unpacks to far more than it is, is refused before it is unpacked whole', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    expect(bomb.length).toBeLessThan(100_000);
    expect(await refusal(bomb)).toContain('unpacks to more than');
  });

  it.each([
    ['compressed bytes', { compressedBytes: 100 }, 'at most 100 are read'],
    ['unpacked bytes', { unpackedBytes: 1000 }, 'unpacks to more than 1000 bytes'],
    ['bytes of one file', { fileBytes: 1000 }, 'at most 1000 are read'],
    ['files', { files: 3 }, 'more than 3 entries'],
  ])('over the limit of %s is refused', async (_what, limit, expected) => {
    expect(await refusal(demo, { ...BUNDLE_LIMITS, ...limit })).toContain(expected);
  });

  it.each([
    ['a symbolic link', { name: 'policy.wasm', type: 'symlink', linkname: '/etc/passwd' }, 'a symlink'],
    ['a hard link', { name: 'policy.wasm', type: 'link', linkname: 'data.json' }, 'a link'],
    ['a device', { name: 'null', type: 'character-device' }, 'a character-device'],
    ['a pipe', { name: 'pipe', type: 'fifo' }, 'a fifo'],
    ['a climbing path', { name: '../policy.wasm', bytes: 'x' }, 'not a plain path'],
    ['a path that climbs inside', { name: 'a/../../policy.wasm', bytes: 'x' }, 'not a plain path'],
    ['an absolute path below the one slash that OPA writes', { name: '//etc/passwd', bytes: 'x' }, 'not a plain path'],
    ['a path with a dot', { name: 'a/./b', bytes: 'x' }, 'not a plain path'],
    ['a path with a backslash', { name: 'a\\..\\b', bytes: 'x' }, 'not a plain path'],
    ['a path with a line break', { name: 'a\nb', bytes: 'x' }, 'not a plain path'],
    ['a climbing folder', { name: '../a/', type: 'directory' }, 'not a plain path'],
  ] as const)('that holds %s is refused', async (_what, entry, expected) => {
    const said = await refusal(await tarOf([{ name: 'data.json', bytes: '{}' }, entry]));
    expect(said).toMatch(/^bundle_invalid: /);
    expect(said).toContain(expected);
  });

  it('that holds one path under two spellings is refused', async () => {
    for (const name of ['data.json', '/data.json', './data.json']) {
      const said = await refusal(
        await tarOf([
          { name: 'data.json', bytes: '{}' },
          { name, bytes: '{"a":1}' },
        ]),
      );
      expect(said).toContain('twice');
    }
  });

  it('that holds folders is read', async () => {
    const { files, digest } = await readBundle(demo);
    const entries = files.map(({ path: name, bytes }) => ({ name, bytes }));
    const archive = await tarOf([{ name: './', type: 'directory' }, { name: 'mesh/', type: 'directory' }, ...entries]);
    expect((await readBundle(archive)).digest).toBe(digest);
  });

  it('is packed to the same bytes from the same files in any order', async () => {
    const { files } = await readBundle(demo);
    const [one, two] = [await packArchive(files), await packArchive([...files].reverse())];
    expect(Buffer.compare(one, two)).toBe(0);
  });
});

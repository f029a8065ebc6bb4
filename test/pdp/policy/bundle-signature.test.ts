import { createHash, createHmac, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { packArchive } from '../../../services/shared/bundles/pack-archive.ts';
import { createRunOpa, type RunOpa } from '../../../services/cli/opa-binary.ts';
import { BUNDLE_LIMITS } from '../../../services/shared/bundles/bundle-archive.ts';
import { readBundleKey, readSigningKey, signBytes, type BundleKey } from '../../../services/pdp/policy/bundle-keys.ts';
import { readBundle } from '../../../services/pdp/policy/bundle-reader.ts';
import { signFiles, verifySignature, type SigningRequirement } from '../../../services/pdp/policy/bundle-signature.ts';
import { canonicalJsonBytes } from '../../../services/pdp/policy/canonical-document.ts';
import type { BundleFile } from '../../../services/shared/contracts/bundle-digest.ts';
import {
  SIGNATURE_ALGORITHMS,
  type SignatureAlgorithm,
} from '../../../services/shared/contracts/signature-algorithms.ts';
import { answering } from './make-bundles.ts';

/** Numbers as people write them, text that Go and JavaScript escape differently. */
const DATA = `{
  "numbers": [1.0, 1e3, 1E-7, -0, 12345678901234567890, 0.10],
  "text": "<a>&\\u2028\\u00e9\\ud83d\\ude00\\b\\u0001\\u007f/",
  "b": {"\\ufffd": 1, "\\ud83d\\ude00": 2, "é": null}, "a": {}
}
`;
const MANIFEST = JSON.stringify({
  roots: ['edict', 'numbers', 'text', 'b', 'a'],
  rego_version: 1,
  metadata: { edict: { name: 'signed', serial: 1 } },
});

let folder: string;
let opa: RunOpa;
let files: readonly BundleFile[];
const keys = new Map<SignatureAlgorithm, BundleKey>();
const keyFile = (algorithm: string, half: 'private' | 'public'): string =>
  path.join(folder, algorithm.startsWith('HS') ? 'secret' : `${algorithm}.${half}`);

const newPair = (algorithm: string): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } => {
  if (algorithm === 'EdDSA') return generateKeyPairSync('ed25519');
  if (algorithm.startsWith('ES'))
    return generateKeyPairSync('ec', {
      namedCurve: { '256': 'P-256', '384': 'P-384', '512': 'P-521' }[algorithm.slice(2)]!,
    });
  return generateKeyPairSync('rsa', { modulusLength: 2048 });
};

const run = async (args: readonly string[], cwd: string): Promise<string> => {
  const { exitCode, stdout, stderr } = await opa(args, { cwd });
  if (exitCode !== 0) throw new Error(`opa ${args.join(' ')}: ${stderr || stdout}`);
  return stdout;
};

/** The bundle as `opa build` writes it, signed or not. */
const opaBuild = async (...more: readonly string[]): Promise<Uint8Array> => {
  const output = path.join(folder, `${randomBytes(4).toString('hex')}.tar.gz`);
  const args = ['build', '--target', 'wasm', '--entrypoint', 'edict/decide', '--bundle', '.', '--output', output];
  await run([...args, ...more], path.join(folder, 'policies'));
  return await readFile(output);
};

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-signature-'));
  opa = await createRunOpa();
  await writeFile(path.join(folder, 'secret'), randomBytes(64).toString('hex'));
  for (const algorithm of SIGNATURE_ALGORITHMS) {
    if (!algorithm.startsWith('HS')) {
      const { privateKey, publicKey } = newPair(algorithm);
      await writeFile(keyFile(algorithm, 'private'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
      await writeFile(keyFile(algorithm, 'public'), publicKey.export({ type: 'spki', format: 'pem' }));
    }
    keys.set(algorithm, await readBundleKey('default', { algorithm, key_file: keyFile(algorithm, 'public') }));
  }
  await mkdir(path.join(folder, 'policies', 'edict'), { recursive: true });
  await writeFile(path.join(folder, 'policies', '.manifest'), MANIFEST);
  await writeFile(path.join(folder, 'policies', 'data.json'), DATA);
  await writeFile(path.join(folder, 'policies', 'edict', 'edict.rego'), answering('signed'));
  const bundle = await readBundle(await opaBuild());
  // As an author wrote it, not as OPA rewrites it: the digests must not depend on that.
  files = bundle.files.map((file) => (file.path === 'data.json' ? { ...file, bytes: Buffer.from(DATA) } : file));
}, 180_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

const requirement = (algorithm: SignatureAlgorithm, more: Partial<SigningRequirement> = {}): SigningRequirement => {
  const key = keys.get(algorithm)!;
  return { keys: new Map([[key.id, key]]), keyId: undefined, scope: undefined, ...more };
};
const signed = async (algorithm: SignatureAlgorithm, of = files, scope?: string): Promise<readonly BundleFile[]> => {
  const key = await readSigningKey(keyFile(algorithm, 'private'), algorithm);
  return [...of, signFiles(of, { ...key, keyId: 'default', ...(scope === undefined ? {} : { scope }) })];
};
const refusal = (of: readonly BundleFile[], demanded: SigningRequirement): string => {
  try {
    return `verified by ${verifySignature(of, demanded).key}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};

describe('a bundle signature', () => {
  it.each(SIGNATURE_ALGORITHMS)(
    'by %s: what opa signs we verify, what we sign opa verifies',
    async (algorithm) => {
      const there = path.join(folder, `of-${algorithm}`);
      for (const file of files) {
        await mkdir(path.dirname(path.join(there, file.path)), { recursive: true });
        await writeFile(path.join(there, file.path), file.bytes);
      }
      const alg = ['--signing-alg', algorithm];
      await run(['sign', '--bundle', '.', '--signing-key', keyFile(algorithm, 'private'), ...alg], there);
      const bytes = await readFile(path.join(there, '.signatures.json'));
      const byOpa = [...files, { path: '.signatures.json', bytes }];
      // `opa sign` names no key, so the source must.
      expect(verifySignature(byOpa, requirement(algorithm, { keyId: 'default' }))).toEqual({
        key: 'default',
        algorithm,
        scope: '',
      });
      expect(refusal(byOpa, requirement(algorithm))).toContain('the token names none');

      const archive = path.join(folder, `${algorithm}.tar.gz`);
      await writeFile(archive, await packArchive(await signed(algorithm, files, 'write')));
      const verify = (scope: string) =>
        opa(
          [
            'build',
            '--bundle',
            archive,
            '--verification-key',
            keyFile(algorithm, 'public'),
            ...alg,
            '--scope',
            scope,
            '--output',
            path.join(folder, 'ignored.tar.gz'),
          ],
          { cwd: folder },
        );
      expect(await verify('write')).toMatchObject({ exitCode: 0 });
      expect(await verify('read')).toMatchObject({ exitCode: 1 });
    },
    120_000,
  );

  it('of `opa build --signing-key` verifies, with the key that it names and with one that is configured', async () => {
    const key = keyFile('RS256', 'private');
    await writeFile(path.join(folder, 'claims.json'), '{"scope": "write", "keyid": "ci"}');
    const plain = await opaBuild('--signing-key', key);
    expect((await readBundle(plain, BUNDLE_LIMITS, requirement('RS256'))).signature).toEqual({
      key: 'default',
      algorithm: 'RS256',
      scope: '',
    });
    const claims = ['--claims-file', path.join(folder, 'claims.json')];
    const scoped = await opaBuild('--signing-key', key, ...claims);
    const configured = requirement('RS256', { keyId: 'default', scope: 'write' });
    expect((await readBundle(scoped, BUNDLE_LIMITS, configured)).signature?.scope).toBe('write');
    const demand = { ...requirement('RS256'), scope: 'write' };
    await expect(readBundle(scoped, BUNDLE_LIMITS, demand)).rejects.toThrow('key "ci" is not one of this source');
  }, 120_000);

  it('takes the scope of the key where the source names none', async () => {
    const key = { ...keys.get('ES256')!, scope: 'write' };
    const demanded = { ...requirement('ES256'), keys: new Map([['default', key]]) };
    expect(refusal(await signed('ES256', files, 'write'), demanded)).toBe('verified by default');
    expect(refusal(await signed('ES256'), demanded)).toContain('the scope is "", not "write"');
    expect(refusal(await signed('ES256', files, 'write'), requirement('ES256'))).toContain('the scope is "write"');
  });

  it('covers numbers as they are written, not white space', async () => {
    const of = await signed('ES256');
    const changed = (from: string, to: string): readonly BundleFile[] =>
      of.map((file) => (file.path === 'data.json' ? { ...file, bytes: Buffer.from(DATA.replace(from, to)) } : file));
    expect(refusal(changed('"a": {}', '"a":\n{ }'), requirement('ES256'))).toBe('verified by default');
    expect(refusal(changed('1.0', '1.00'), requirement('ES256'))).toContain(
      'data.json is not the file that was signed',
    );
    expect(refusal(changed('-0', '0'), requirement('ES256'))).toContain('data.json is not the file that was signed');
  });

  it('is refused where the file cannot be read as JSON', () => {
    for (const bad of ['{"a":01}', '{', '\ufeff{}', '['.repeat(600) + ']'.repeat(600)])
      expect(() => canonicalJsonBytes('data.json', Buffer.from(bad))).toThrow('data.json is not UTF-8 JSON');
    expect(() => canonicalJsonBytes('data.json', Buffer.from([0x22, 0xff, 0x22]))).toThrow('data.json is not UTF-8');
  });

  it.each([
    ['MD5', 'md5'],
    ['SHA-1', 'sha1'],
    ['SHA-224', 'sha224'],
    ['SHA-256', 'sha256'],
    ['SHA-384', 'sha384'],
    ['SHA-512', 'sha512'],
    ['SHA-512-224', 'sha512-224'],
    ['SHA-512-256', 'sha512-256'],
  ])('may list digests of %s', async (algorithm, digest) => {
    const entries = listing(files).map(({ name, content }) => ({
      name,
      hash: createHash(digest).update(content).digest('hex'),
      algorithm,
    }));
    expect(refusal(await byHand({ payload: { files: entries } }), requirement('ES256'))).toBe('verified by default');
  });
});

interface ByHand {
  readonly header?: object;
  readonly payload?: object;
  readonly key?: SignatureAlgorithm;
  readonly sign?: (signed: Buffer) => Buffer;
  readonly of?: readonly BundleFile[];
}

const listing = (of: readonly BundleFile[]) =>
  of.map((file) => ({
    name: file.path,
    content: /data\.json|\.manifest/.test(file.path) ? canonicalJsonBytes(file.path, file.bytes) : file.bytes,
  }));
const listed = (of: readonly BundleFile[]) =>
  listing(of).map(({ name, content }) => ({
    name,
    hash: createHash('sha256').update(content).digest('hex'),
    algorithm: 'SHA-256',
  }));
const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token put together piece by piece: well-formed unless told otherwise. */
const token = async ({ header, payload, key = 'ES256', sign }: ByHand = {}): Promise<string> => {
  const { key: privateKey } = await readSigningKey(keyFile(key, 'private'), key);
  const signedPart = `${part({ alg: key, kid: 'default', ...header })}.${part({ files: listed(files), ...payload })}`;
  const signature = (sign ?? ((bytes) => signBytes(privateKey, key, bytes)))(Buffer.from(signedPart));
  return `${signedPart}.${signature.toString('base64url')}`;
};
const withSignatures = (document: unknown, of = files): readonly BundleFile[] => [
  ...of,
  { path: '.signatures.json', bytes: Buffer.from(typeof document === 'string' ? document : JSON.stringify(document)) },
];
const byHand = async (recipe: ByHand): Promise<readonly BundleFile[]> =>
  withSignatures({ signatures: [await token(recipe)] }, recipe.of ?? files);

describe('a hostile signature', () => {
  const without = (name: string) => files.filter((file) => file.path !== name);

  it.each<[string, () => Promise<readonly BundleFile[]>, string]>([
    ['missing', async () => files, 'there is no .signatures.json'],
    ['in an empty list', async () => withSignatures({ signatures: [] }), 'holds 0 signatures'],
    ['that is no text', async () => withSignatures({ signatures: [1] }), 'exactly one is expected'],
    ['in a file that is no JSON', async () => withSignatures('{'), 'not UTF-8 JSON'],
    ['in a file that is a list', async () => withSignatures('[]'), 'not a JSON object'],
    ['twice', async () => withSignatures({ signatures: [await token(), await token()] }), 'holds 2 signatures'],
    ['for a plugin', async () => withSignatures({ signatures: [await token()], plugin: 'x' }), 'no plugins'],
    ['of two parts', async () => withSignatures({ signatures: ['e30.e30'] }), 'three parts'],
    ['of four parts', async () => withSignatures({ signatures: [`${await token()}.e30`] }), 'three parts'],
    ['with other base64', async () => withSignatures({ signatures: [`${await token()}==`] }), 'not base64url'],
    ['by none', () => byHand({ header: { alg: 'none' }, sign: () => Buffer.alloc(0) }), 'the token says "none"'],
    ['by none, said to be ES256', () => byHand({ sign: () => Buffer.alloc(0) }), 'not signed by'],
    ['without an algorithm', () => byHand({ header: { alg: undefined } }), 'the token says null'],
    [
      'by HS256 with the public key as the secret',
      async () => {
        const secret = await readFile(keyFile('ES256', 'public'));
        return byHand({
          header: { alg: 'HS256' },
          sign: (bytes) => createHmac('sha256', secret).update(bytes).digest(),
        });
      },
      'is for ES256, the token says "HS256"',
    ],
    ['by another key of the same kind', () => byHand({ sign: () => randomBytes(64) }), 'not signed by'],
    ['of zeros (CVE-2022-21449)', () => byHand({ sign: () => Buffer.alloc(64) }), 'not signed by'],
    ['by a key that is not there', () => byHand({ header: { kid: 'other' } }), 'is not one of this source'],
    ['by a key of the prototype', () => byHand({ header: { kid: '__proto__' } }), 'is not one of this source'],
    ['with a kid that is a number', () => byHand({ header: { kid: 1 } }), 'kid is no text'],
    ['with a critical extension', () => byHand({ header: { crit: ['b64'], b64: false } }), 'crit'],
    ['with a term of validity', () => byHand({ payload: { exp: 1 } }), 'exp'],
    ['of another scope', () => byHand({ payload: { scope: 'write' } }), 'the scope is "write", not ""'],
    ['over no list', () => byHand({ payload: { files: undefined } }), 'no list of files'],
    [
      'over a list with a bad digest',
      () => byHand({ payload: { files: [{ name: 'a', hash: 'zz', algorithm: 'MD5' }] } }),
      'no list',
    ],
    ['over fewer files', () => byHand({ payload: { files: listed(files).slice(1) } }), 'is not signed'],
    ['over more files', () => byHand({ of: without('data.json') }), '"data.json" was signed and is not'],
    [
      'over a file that is listed twice',
      () => byHand({ payload: { files: [...listed(files), listed(files)[0]] } }),
      'twice',
    ],
    [
      'without the file that was added',
      () => byHand({ of: [...files, { path: 'x.rego', bytes: Buffer.from('') }] }),
      'x.rego is not signed',
    ],
    [
      'with a digest algorithm that nobody knows',
      () => byHand({ payload: { files: listed(files).map((file) => ({ ...file, algorithm: 'CRC-32' })) } }),
      'unknown digest algorithm',
    ],
    [
      'over another module',
      () => byHand({ of: [...without('policy.wasm'), { path: 'policy.wasm', bytes: Buffer.from('\0asm') }] }),
      'policy.wasm is not the file that was signed',
    ],
    [
      'with a payload that was changed afterwards',
      async () => {
        const [header, , signature] = (await token()).split('.');
        return withSignatures({ signatures: [`${header}.${part({ files: listed(files), scope: '' })}.${signature}`] });
      },
      'not signed by',
    ],
    ['of megabytes', async () => withSignatures(' '.repeat(5 * 1024 * 1024)), 'more than'],
  ])('%s is refused', async (_what, make, expected) => {
    expect(refusal(await byHand({}), requirement('ES256'))).toBe('verified by default');
    const said = refusal(await make(), requirement('ES256'));
    expect(said).toMatch(/^signature: /);
    expect(said).toContain(expected);
  });

  it('below a folder is no signature', async () => {
    const nested = [...files, { path: 'a/.signatures.json', bytes: (await signed('ES256')).at(-1)!.bytes }];
    expect(refusal(nested, requirement('ES256'))).toContain('there is no .signatures.json');
  });

  it('is found before anything else in the bundle is looked at', async () => {
    const archive = await packArchive(
      withSignatures({ signatures: [] }, [{ path: '.manifest', bytes: Buffer.from('{') }]),
    );
    await expect(readBundle(archive, BUNDLE_LIMITS, requirement('ES256'))).rejects.toMatchObject({
      code: 'bundle_invalid',
    });
    await expect(readBundle(archive, BUNDLE_LIMITS, requirement('ES256'))).rejects.toThrow('holds 0 signatures');
  });
});

describe('a key for signatures', () => {
  const read = (algorithm: SignatureAlgorithm, file: string) =>
    readBundleKey('k', { algorithm, key_file: file }).then(
      () => 'read',
      (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
    );

  it.each([
    ['on another curve', 'ES256', () => keyFile('ES384', 'public'), 'prime256v1'],
    ['of another kind', 'RS256', () => keyFile('ES256', 'public'), 'rsa'],
    ['that is private', 'ES256', () => keyFile('ES256', 'private'), 'a private key'],
    ['that is missing', 'ES256', () => path.join(folder, 'none'), 'cannot be read (ENOENT)'],
    ['that is no PEM', 'ES256', () => path.join(folder, 'policies', '.manifest'), 'not a usable key'],
  ] as const)('%s is refused', async (_what, algorithm, file, expected) => {
    const said = await read(algorithm, file());
    expect(said).toMatch(/^settings_invalid: /);
    expect(said).toContain(expected);
  });

  it('that is too weak is refused', async () => {
    const weak = path.join(folder, 'weak');
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    await writeFile(weak, publicKey.export({ type: 'spki', format: 'pem' }));
    expect(await read('RS256', weak)).toContain('2048 bits');
    await writeFile(weak, 'secret');
    expect(await read('HS256', weak)).toContain('32 bytes');
  });
});

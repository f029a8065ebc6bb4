/**
 * A second, naive implementation of the ledger's bytes, written from docs/ledger.md with nothing of `services/`:
 * it must agree with the published vectors, which in turn must be what the program makes.
 */
import { createDecipheriv, createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { vectorFiles } from '../../scripts/generate-vectors.ts';
import { decodeEntry, encodeEntry } from '../../services/audit/core/entry.ts';
import { decryptPayload } from '../../services/audit/core/payload.ts';
import { parseAck } from '../../services/shared/contracts/ack.ts';
import { isEventSignedBy } from '../../services/shared/contracts/events.ts';
import { parseVkey, publicKeyFromRaw } from '../../services/shared/contracts/signatures.ts';
import { repositoryRoot } from '../support/prepared-parts.ts';

const folder = path.join(repositoryRoot, 'docs/vectors');
const read = (name: string): unknown => JSON.parse(readFileSync(path.join(folder, name), 'utf8'));

// The second implementation: everything as hex text.
const H = (...parts: readonly string[]): string =>
  createHash('sha256')
    .update(Buffer.from(parts.join(''), 'hex'))
    .digest('hex');
const ascii = (text: string): string => Buffer.from(text, 'utf8').toString('hex');
const uint = (value: string | number, bytes: number): string =>
  BigInt(value)
    .toString(16)
    .padStart(bytes * 2, '0');
const lp = (bytes: string): string => uint(bytes.length / 2, 4) + bytes;
const rootOf = (leaves: readonly string[]): string => {
  const [only] = leaves;
  if (only === undefined) return H();
  if (leaves.length === 1) return H('00', only);
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return H('01', rootOf(leaves.slice(0, split)), rootOf(leaves.slice(split)));
};

interface EntryVector {
  readonly name: string;
  readonly fields: {
    readonly kind: number;
    readonly seq: string;
    readonly ingest_us: string;
    readonly event_id: string;
    readonly topic: string;
    readonly partition: number;
    readonly offset: string;
    readonly emitter: string;
    readonly boot: string;
    readonly emitter_seq: string;
    readonly policy_set_digest: string;
    readonly commitment: string;
    readonly prev: string;
  };
  readonly entry: string;
  readonly leaf: string;
}

describe('golden vectors', () => {
  it('are what this program makes, file by file', async () => {
    const made = await vectorFiles();
    expect(readdirSync(folder).sort()).toEqual([...made.keys()].sort());
    for (const [name, text] of made) expect(readFileSync(path.join(folder, name), 'utf8')).toBe(text);
  });

  it.each((read('entries.json') as readonly EntryVector[]).map((vector) => [vector.name, vector] as const))(
    'entry and leaf: %s',
    (_name, { fields, entry, leaf }) => {
      const bytes = [
        '01',
        uint(fields.kind, 1),
        uint(fields.seq, 8),
        uint(fields.ingest_us, 8),
        fields.event_id.replaceAll('-', ''),
        lp(ascii(fields.topic)),
        uint(fields.partition, 4),
        uint(fields.offset, 8),
        fields.emitter,
        uint(fields.boot, 8),
        uint(fields.emitter_seq, 8),
        fields.policy_set_digest,
        fields.commitment,
        fields.prev,
      ].join('');
      expect(entry).toBe(bytes);
      expect(leaf).toBe(H('00', bytes));
      expect(encodeEntry(decodeEntry(Buffer.from(entry, 'hex'))).toString('hex')).toBe(entry);
    },
  );

  it('genesis hashes', () => {
    const vectors = read('genesis.json') as readonly {
      readonly origin: string;
      readonly vkey: string;
      readonly previous: { readonly origin: string; readonly size: string; readonly root: string } | null;
      readonly prev_0: string;
    }[];
    expect(vectors).toHaveLength(2);
    for (const { origin, vkey, previous, prev_0: expected } of vectors)
      expect(expected).toBe(
        H(
          ascii('edict/genesis/v1\0'),
          lp(ascii(origin)),
          lp(ascii(vkey)),
          lp(ascii(previous?.origin ?? '')),
          uint(previous?.size ?? 0, 8),
          previous?.root ?? '00'.repeat(32),
        ),
      );
  });

  it('commitments and encrypted payloads', () => {
    const vectors = read('payloads.json') as readonly {
      readonly content_type: string;
      readonly payload: string;
      readonly salt: string;
      readonly d: string;
      readonly f: string;
      readonly commitment: string;
      readonly encryption: {
        readonly origin: string;
        readonly seq: string;
        readonly event_id: string;
        readonly associated_data: string;
        readonly key: string;
        readonly nonce: string;
        readonly stored: string;
      };
    }[];
    expect(vectors).toHaveLength(3);
    for (const { content_type: type, payload, salt, d, f, commitment, encryption } of vectors) {
      expect(d).toBe(H(ascii('edict/raw/v1\0'), salt, lp(ascii(type)), lp(payload)));
      expect(f).toBe(H());
      expect(commitment).toBe(H(ascii('edict/rec/v1\0'), d, f));
      const { origin, seq, event_id: eventId, key, nonce, stored } = encryption;
      const associated = lp(ascii(origin)) + uint(seq, 8) + eventId.replaceAll('-', '');
      expect(encryption.associated_data).toBe(associated);
      expect(stored.slice(0, 24)).toBe(nonce);
      const decipher = createDecipheriv('aes-256-gcm', Buffer.from(key, 'hex'), Buffer.from(nonce, 'hex'));
      decipher.setAAD(Buffer.from(associated, 'hex'));
      decipher.setAuthTag(Buffer.from(stored.slice(-32), 'hex'));
      const plain = Buffer.concat([decipher.update(Buffer.from(stored.slice(24, -32), 'hex')), decipher.final()]);
      expect(plain.toString('hex')).toBe(salt + lp(ascii(type)) + payload);
      const opened = decryptPayload(
        Buffer.from(key, 'hex'),
        { origin, seq: BigInt(seq), eventId },
        Buffer.from(stored, 'hex'),
      );
      expect(opened?.bytes.toString('hex')).toBe(payload);
      expect(
        decryptPayload(Buffer.from(key, 'hex'), { origin, seq: BigInt(seq) + 1n, eventId }, Buffer.from(stored, 'hex')),
      ).toBeUndefined();
    }
  });

  it('trees, as RFC 6962 has them', () => {
    const tree = read('tree.json') as {
      readonly empty_root: string;
      readonly empty_leaf: string;
      readonly node: { readonly left: string; readonly right: string; readonly hash: string };
      readonly leaves: readonly string[];
      readonly roots: readonly string[];
    };
    expect(tree.empty_root).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    expect(tree.empty_leaf).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
    expect(tree.node.hash).toBe(H('01', tree.node.left, tree.node.right));
    expect(tree.roots).toEqual(tree.leaves.map((_leaf, index) => rootOf(tree.leaves.slice(0, index + 1))));
    // Published with the first implementation of RFC 6962.
    expect(tree.roots[7]).toBe('5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328');
  });

  it('proofs, as RFC 6962 has them', () => {
    const { leaves, inclusion, consistency } = read('proofs.json') as {
      readonly leaves: readonly string[];
      readonly inclusion: readonly {
        readonly index: number;
        readonly size: number;
        readonly hashes: readonly string[];
      }[];
      readonly consistency: readonly {
        readonly from: number;
        readonly to: number;
        readonly hashes: readonly string[];
      }[];
    };
    const splitOf = (n: number): number => (n < 3 ? 1 : 2 * splitOf(Math.ceil(n / 2)));
    const pathOf = (m: number, part: readonly string[]): readonly string[] => {
      if (part.length === 1) return [];
      const k = splitOf(part.length);
      const [left, right] = [part.slice(0, k), part.slice(k)];
      return m < k ? [...pathOf(m, left), rootOf(right)] : [...pathOf(m - k, right), rootOf(left)];
    };
    const proof = (m: number, part: readonly string[], isWhole = true): readonly string[] => {
      if (m === part.length) return isWhole ? [] : [rootOf(part)];
      const k = splitOf(part.length);
      const [left, right] = [part.slice(0, k), part.slice(k)];
      return m <= k ? [...proof(m, left, isWhole), rootOf(right)] : [...proof(m - k, right, false), rootOf(left)];
    };
    for (const { index, size, hashes } of inclusion) expect(hashes).toEqual(pathOf(index, leaves.slice(0, size)));
    for (const { from, to, hashes } of consistency) expect(hashes).toEqual(proof(from, leaves.slice(0, to)));
    expect([inclusion.length, consistency.length]).toEqual([36, 28]);
  });

  it('signed notes, checkpoints and entry bundles, as C2SP has them', () => {
    const { notes, checkpoint, bundle } = read('checkpoints.json') as {
      readonly notes: readonly { readonly vkey: string; readonly text: string; readonly note: string }[];
      readonly checkpoint: Readonly<Record<'origin' | 'size' | 'root' | 'vkey' | 'note', string>>;
      readonly bundle: { readonly entries: readonly string[]; readonly bytes: string };
    };
    const { origin, size, root, vkey } = checkpoint;
    const text = `${origin}\n${size}\n${Buffer.from(root, 'hex').toString('base64')}\n`;
    for (const { vkey: line, text: signed, note } of [...notes, { ...checkpoint, text }]) {
      const [name = '', id = '', key = ''] = /^([^+]+)\+([^+]+)\+(.*)$/.exec(line)?.slice(1) ?? [];
      const [, lineName, encoded = ''] = /^— (\S+) (\S+)\n$/.exec(note.slice(signed.length + 1)) ?? [];
      expect(note.startsWith(`${signed}\n`)).toBe(true);
      const bytes = Buffer.from(encoded, 'base64');
      expect([lineName, bytes.subarray(0, 4).toString('hex')]).toEqual([name, id]);
      const publicKey = createPublicKey({
        key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(key, 'base64').subarray(1)]),
        format: 'der',
        type: 'spki',
      });
      expect(verify(null, Buffer.from(signed), publicKey, bytes.subarray(4))).toBe(true);
    }
    expect(root).toBe(rootOf(bundle.entries));
    expect(vkey.startsWith(`${origin}+`)).toBe(true);
    expect(bundle.bytes).toBe(bundle.entries.map((entry) => uint(entry.length / 2, 2) + entry).join(''));
  });

  it('verifier keys, emitter ids and signatures', () => {
    const vectors = read('signatures.json') as {
      readonly private_key: { readonly seed: string; readonly public_key: string };
      readonly emitter_id: string;
      readonly vkeys: readonly { readonly name: string; readonly public_key: string; readonly vkey: string }[];
      readonly event: {
        readonly unsigned: { readonly data: object };
        readonly canonical: string;
        readonly signature: string;
      };
      readonly ack: { readonly unsigned: object; readonly canonical: string; readonly signature: string };
    };
    const { seed, public_key: publicKey } = vectors.private_key;
    // RFC 8032, section 7.1, test 1.
    expect(publicKey).toBe('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
    expect(vectors.emitter_id).toBe(H(publicKey).slice(0, 32));
    for (const { name, public_key: raw, vkey } of vectors.vkeys) {
      const id = H(ascii(`${name}\n`), '01', raw).slice(0, 8);
      expect(vkey).toBe(`${name}+${id}+${Buffer.from(`01${raw}`, 'hex').toString('base64')}`);
      expect(parseVkey(vkey)).toMatchObject({ name });
    }
    const privateKey = createPrivateKey({
      key: Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex'),
      format: 'der',
      type: 'pkcs8',
    });
    const signed = (domain: string, canonical: string): Buffer =>
      Buffer.from(ascii(domain) + lp(ascii(canonical)), 'hex');
    const { event, ack } = vectors;
    for (const { document, domain } of [
      { document: event, domain: 'edict/emitter/v1\0' },
      { document: ack, domain: 'edict/ack/v1\0' },
    ]) {
      // No number or text in these needs more of RFC 8785 than sorted members.
      expect(document.canonical).toBe(sortedJson(document.unsigned));
      const bytes = signed(domain, document.canonical);
      expect(document.signature).toBe(sign(null, bytes, privateKey).toString('base64'));
      expect(verify(null, bytes, createPublicKey(privateKey), Buffer.from(document.signature, 'base64'))).toBe(true);
    }
    const whole = { ...event.unsigned, data: { ...event.unsigned.data, signature: event.signature } };
    expect(isEventSignedBy(whole, Buffer.from(publicKey, 'hex'))).toBe(true);
    const raw = Buffer.from(publicKey, 'hex');
    const verifier = { name: 'ack', keyId: Buffer.alloc(4), publicKey: raw, key: publicKeyFromRaw(raw) };
    expect(parseAck({ ...ack.unsigned, signature: ack.signature }, [verifier])).toBeDefined();
  });

  it('cosignatures, requests to witnesses and proof files', () => {
    const vectors = read('witnesses.json') as {
      readonly cosignature: {
        readonly vkey: string;
        readonly checkpoint: string;
        readonly time: number;
        readonly line: string;
      };
      readonly add_checkpoint: { readonly old_size: string; readonly proof: readonly string[]; readonly body: string };
      readonly proof_file: {
        readonly entry: string;
        readonly index: string;
        readonly extra: string;
        readonly hashes: readonly string[];
        readonly note: string;
        readonly policy: string;
        readonly file: string;
      };
    };
    const base64 = (bytes: string): string => Buffer.from(bytes, 'hex').toString('base64');
    const { vkey, checkpoint, time, line } = vectors.cosignature;
    const [name = '', id = '', encoded = ''] = vkey.split('+', 2).concat(vkey.split('+').slice(2).join('+'));
    const typed = Buffer.from(encoded, 'base64').toString('hex');
    expect(typed.slice(0, 2)).toBe('04');
    expect(id).toBe(H(ascii(`${name}\n`), typed).slice(0, 8));
    const bytes = Buffer.from(line.slice(`— ${name} `.length, -1), 'base64').toString('hex');
    expect(line).toBe(`— ${name} ${base64(bytes)}\n`);
    expect(bytes.slice(0, 24)).toBe(id + uint(time, 8));
    const key = publicKeyFromRaw(Buffer.from(typed.slice(2), 'hex'));
    const message = Buffer.from(`cosignature/v1\ntime ${time}\n${checkpoint}`, 'utf8');
    expect(verify(null, message, key, Buffer.from(bytes.slice(24), 'hex'))).toBe(true);

    const { old_size: oldSize, proof, body } = vectors.add_checkpoint;
    const { entry, index, extra, hashes, note, policy, file } = vectors.proof_file;
    expect(note.startsWith(`${checkpoint}\n— `) && note.endsWith(line)).toBe(true);
    expect(body).toBe([`old ${oldSize}`, ...proof.map(base64), '', note.slice(0, -line.length)].join('\n'));
    const head = ['c2sp.org/tlog-proof@v1', `extra ${base64(extra)}`, `index ${index}`];
    expect(file).toBe([...head, ...hashes.map(base64), '', note].join('\n'));
    expect(policy).toContain(`witness w1 ${vkey}\nquorum w1\n`);
    // Entry 5 of 8: the path turns right, left, right.
    const [h0 = '', h1 = '', h2 = ''] = hashes;
    const root = H('01', h2, H('01', H('01', h0, H('00', entry)), h1));
    expect(checkpoint.split('\n')[2]).toBe(base64(root));
  });

  it('digests of bundles and of sets of bundles', () => {
    const { bundle, sets } = read('digests.json') as {
      readonly bundle: {
        readonly files: readonly { readonly path: string; readonly content: string }[];
        readonly digest: string;
      };
      readonly sets: readonly { readonly bundles: readonly string[]; readonly digest: string }[];
    };
    const files = bundle.files
      .filter((file) => file.path !== '.signatures.json')
      .sort((a, b) => (a.path < b.path ? -1 : 1))
      .map((file) => lp(ascii(file.path)) + H(ascii(file.content)));
    expect(bundle.digest).toBe(`sha256:${H(ascii('edict/bundle/v1\0'), ...files)}`);
    for (const { bundles, digest } of sets)
      expect(digest).toBe(`sha256:${H(ascii('edict/set/v1\0'), ...bundles.map((text) => text.slice(7)).sort())}`);
    expect(sets.map(({ digest }) => digest)[1]).toBe(sets[2]?.digest);
  });
});

const sortedJson = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(sortedJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${sortedJson(member)}`).join(',')}}`;
};

/** Writes docs/vectors/*.json: fixed inputs, and every byte that this program makes of them. Deterministic. */
import { createCipheriv } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format } from 'prettier';
import {
  commitPayload,
  encodeEntry,
  ENTRY_KINDS,
  genesisHash,
  leafHash,
  type Entry,
} from '../services/audit/core/entry.ts';
import { formatAddCheckpoint } from '../services/shared/tlog/add-checkpoint.ts';
import { signCheckpoint } from '../services/shared/tlog/checkpoint.ts';
import { formatWitnessVkey, parseWitnessVkey, signCosignature } from '../services/shared/tlog/cosignature.ts';
import { createTreeHasher, nodeHash } from '../services/shared/tlog/merkle.ts';
import { formatProof } from '../services/shared/tlog/proof-file.ts';
import { consistencyProof, inclusionProof, type ReadHashes } from '../services/shared/tlog/proofs.ts';
import { encodeBundle } from '../services/shared/tlog/tiles.ts';
import { signAck } from '../services/shared/contracts/ack.ts';
import { bundleDigest, digestText, setDigest } from '../services/shared/contracts/bundle-digest.ts';
import { fromHex, hex, lp, sha256, u64 } from '../services/shared/contracts/bytes.ts';
import { EVENT_CONTENT_TYPE, signEvent } from '../services/shared/contracts/events.ts';
import { canonicalJson } from '../services/shared/contracts/json.ts';
import { emitterId, formatVkey, parseVkey, signingKeyFromPem } from '../services/shared/contracts/signatures.ts';
import { uuidToBytes } from '../services/shared/contracts/uuid.ts';

/** RFC 8032, section 7.1, test 1: a private key that everybody knows. */
const SEED = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
const KEY = signingKeyFromPem(
  `-----BEGIN PRIVATE KEY-----\n${fromHex(`302e020100300506032b657004220420${SEED}`).toString('base64')}\n-----END PRIVATE KEY-----\n`,
);
const ORIGIN = 'audit.example.com/acme/0/1';
const EMITTER = emitterId(KEY.publicKey);
const ID = '01941f29-7c00-7abc-8def-0123456789ab';
const zeros = (bytes: number): string => '00'.repeat(bytes);

const entryCase = (name: string, fields: Readonly<Record<string, string | number>>) => {
  const entry: Entry = {
    kind: Number(fields['kind']),
    seq: BigInt(String(fields['seq'])),
    ingestUs: BigInt(String(fields['ingest_us'])),
    eventId: uuidToBytes(String(fields['event_id'])),
    topic: String(fields['topic']),
    partition: Number(fields['partition']),
    offset: BigInt(String(fields['offset'])),
    emitter: fromHex(String(fields['emitter'])),
    boot: BigInt(String(fields['boot'])),
    emitterSeq: BigInt(String(fields['emitter_seq'])),
    policySetDigest: fromHex(String(fields['policy_set_digest'])),
    commitment: fromHex(String(fields['commitment'])),
    prev: fromHex(String(fields['prev'])),
  };
  const bytes = encodeEntry(entry);
  return { name, fields, entry: hex(bytes), leaf: hex(leafHash(bytes)) };
};

const common = {
  ingest_us: '1767225600123456',
  event_id: ID,
  commitment: hex(sha256('commitment')),
  prev: hex(sha256('previous leaf')),
};
const numbered = { ...common, emitter: EMITTER, boot: '7', emitter_seq: '42' };
const own = {
  ...common,
  topic: '',
  partition: 0,
  offset: '0',
  emitter: zeros(16),
  boot: '0',
  emitter_seq: '0',
  policy_set_digest: zeros(32),
};
const fromKafka = { topic: 'edict.decisions.v1', partition: 2, offset: '9007199254740993' };

const entries = [
  entryCase('a decision, from Kafka', {
    kind: ENTRY_KINDS.decision,
    seq: '65536',
    ...numbered,
    ...fromKafka,
    policy_set_digest: hex(sha256('policy set')),
  }),
  entryCase('an activation, from a spool', {
    kind: ENTRY_KINDS.activation,
    seq: '1',
    ...numbered,
    topic: `spool/${EMITTER}`,
    partition: 0,
    offset: '0',
    policy_set_digest: hex(sha256('policy set')),
  }),
  entryCase('a part of an artifact, from a spool', {
    kind: ENTRY_KINDS.artifact,
    seq: '2',
    ...numbered,
    topic: `spool/${EMITTER}`,
    partition: 0,
    offset: '1',
    policy_set_digest: zeros(32),
  }),
  entryCase('a heartbeat', {
    kind: ENTRY_KINDS.heartbeat,
    seq: '2',
    ...numbered,
    ...fromKafka,
    policy_set_digest: zeros(32),
  }),
  entryCase('a gap, which the audit service says itself', { kind: ENTRY_KINDS.gap, seq: '3', ...own }),
  entryCase('a quarantined message: its place, no emitter', {
    kind: ENTRY_KINDS.quarantine,
    seq: '4',
    ...own,
    ...fromKafka,
  }),
  entryCase('the first entry of a log', {
    kind: ENTRY_KINDS.incarnation,
    seq: '0',
    ...own,
    prev: hex(genesisHash({ origin: ORIGIN, vkey: formatVkey(ORIGIN, KEY.publicKey) })),
  }),
  entryCase('the largest numbers and a topic that is not ASCII', {
    kind: ENTRY_KINDS.lost,
    seq: '18446744073709551615',
    ...common,
    ingest_us: '18446744073709551615',
    topic: 'Übergröße',
    partition: 4294967295,
    offset: '18446744073709551615',
    emitter: 'ff'.repeat(16),
    boot: '18446744073709551615',
    emitter_seq: '18446744073709551615',
    policy_set_digest: zeros(32),
  }),
];

const genesisCase = (
  name: string,
  genesis: { origin: string; vkey: string; previous: { origin: string; size: string; root: string } | null },
) => ({
  name,
  ...genesis,
  prev_0: hex(
    genesisHash({
      origin: genesis.origin,
      vkey: genesis.vkey,
      ...(genesis.previous === null
        ? {}
        : {
            previous: {
              origin: genesis.previous.origin,
              size: BigInt(genesis.previous.size),
              root: fromHex(genesis.previous.root),
            },
          }),
    }),
  ),
});
const nextOrigin = 'audit.example.com/acme/0/2';
const genesis = [
  genesisCase('a first incarnation', { origin: ORIGIN, vkey: formatVkey(ORIGIN, KEY.publicKey), previous: null }),
  genesisCase('a second incarnation', {
    origin: nextOrigin,
    vkey: formatVkey(nextOrigin, KEY.publicKey),
    previous: { origin: ORIGIN, size: '70000', root: hex(sha256('root')) },
  }),
];

const payloadCase = (name: string, contentType: string, text: string) => {
  const [salt, key, nonce] = [sha256('salt'), sha256('key'), sha256('nonce').subarray(0, 12)];
  const payload = Buffer.from(text, 'utf8');
  const associated = Buffer.concat([lp(ORIGIN), u64(65_536n), uuidToBytes(ID)]);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(associated);
  const sealed = [cipher.update(Buffer.concat([salt, lp(contentType), payload])), cipher.final()];
  return {
    name,
    content_type: contentType,
    payload: hex(payload),
    salt: hex(salt),
    d: hex(sha256('edict/raw/v1\0', salt, lp(contentType), lp(payload))),
    f: hex(sha256()),
    commitment: hex(commitPayload(salt, contentType, payload)),
    encryption: {
      origin: ORIGIN,
      seq: '65536',
      event_id: ID,
      associated_data: hex(associated),
      key: hex(key),
      nonce: hex(nonce),
      stored: hex(Buffer.concat([nonce, ...sealed, cipher.getAuthTag()])),
    },
  };
};
const payloads = [
  payloadCase('an event', EVENT_CONTENT_TYPE, '{"specversion":"1.0","id":"…"}'),
  payloadCase('what the audit service says', 'application/json', canonicalJson({ nonce: zeros(16), gap: 'numbers' })),
  payloadCase('nothing', EVENT_CONTENT_TYPE, ''),
];

/** The leaves of the reference tests of RFC 6962's first implementation. */
const LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
const readLeaves: ReadHashes = (_level, from, count) =>
  Promise.resolve(LEAVES.slice(Number(from), Number(from) + count).map((leaf) => leafHash(fromHex(leaf))));
const proofs = async () => {
  const inclusion = [];
  const consistency = [];
  for (let size = 1; size <= LEAVES.length; size += 1) {
    for (let index = 0; index < size; index += 1)
      inclusion.push({ index, size, hashes: (await inclusionProof(BigInt(index), BigInt(size), readLeaves)).map(hex) });
    for (let from = 1; from < size; from += 1)
      consistency.push({
        from,
        to: size,
        hashes: (await consistencyProof(BigInt(from), BigInt(size), readLeaves)).map(hex),
      });
  }
  return { leaves: LEAVES, inclusion, consistency };
};
const tree = () => {
  const hasher = createTreeHasher();
  const roots = LEAVES.map((leaf) => {
    hasher.add(leafHash(fromHex(leaf)));
    return hex(hasher.root());
  });
  return {
    empty_root: hex(createTreeHasher().root()),
    empty_leaf: hex(leafHash(new Uint8Array(0))),
    node: {
      left: hex(leafHash(fromHex(''))),
      right: hex(leafHash(fromHex('00'))),
      hash: hex(nodeHash(leafHash(fromHex('')), leafHash(fromHex('00')))),
    },
    leaves: LEAVES,
    roots,
  };
};

const checkpoints = () => {
  const vkey = formatVkey(ORIGIN, KEY.publicKey);
  const hasher = createTreeHasher();
  for (const leaf of LEAVES) hasher.add(leafHash(fromHex(leaf)));
  const root = hasher.root();
  const note = signCheckpoint({ origin: ORIGIN, size: hasher.size(), root }, KEY, parseVkey(vkey));
  return {
    notes: [
      {
        source: 'documentation of golang.org/x/mod/sumdb/note',
        vkey: 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW',
        text: "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
        note: "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
      },
      {
        source: 'c2sp.org/signed-note',
        vkey: 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
        text: 'This is an example message.\n',
        note: 'This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n',
      },
    ],
    checkpoint: { origin: ORIGIN, size: '8', root: hex(root), vkey, note: note.toString('utf8') },
    bundle: { entries: LEAVES, bytes: hex(encodeBundle(LEAVES.map(fromHex))) },
  };
};

/** What witnesses are asked and say, and a proof file with both signatures. */
const witnesses = async () => {
  const { checkpoint } = checkpoints();
  const text = checkpoint.note.slice(0, checkpoint.note.indexOf('\n\n') + 1);
  const vkey = formatWitnessVkey('witness.example.org/w1', KEY.publicKey);
  const time = 1_767_225_600;
  const cosignature = signCosignature(text, time, KEY, parseWitnessVkey(vkey));
  const note = `${checkpoint.note}${cosignature}`;
  const proof = await consistencyProof(5n, 8n, readLeaves);
  const inclusion = await inclusionProof(5n, 8n, readLeaves);
  return {
    cosignature: { vkey, checkpoint: text, time, line: cosignature },
    add_checkpoint: {
      old_size: '5',
      proof: proof.map(hex),
      body: formatAddCheckpoint({ oldSize: 5n, proof, checkpoint: Buffer.from(checkpoint.note, 'utf8') }).toString(),
    },
    proof_file: {
      entry: LEAVES[5],
      index: '5',
      extra: hex(Buffer.from('extra', 'utf8')),
      hashes: inclusion.map(hex),
      note,
      policy: `log ${checkpoint.vkey}\nwitness w1 ${vkey}\nquorum w1\n`,
      file: formatProof({
        extra: Buffer.from('extra', 'utf8'),
        index: 5n,
        hashes: inclusion,
        checkpoint: Buffer.from(note, 'utf8'),
      }).toString('utf8'),
    },
  };
};

const NONCE = '0f'.repeat(16);
const heartbeat = {
  specversion: '1.0',
  id: ID,
  source: EMITTER,
  type: 'edict.heartbeat.v1',
  time: '2026-01-01T00:00:00.123Z',
  datacontenttype: 'application/json',
  data: {
    schema_version: 1,
    nonce: NONCE,
    tenant: 'acme',
    emitter: { id: EMITTER, boot: '7', sequence: '1', previous: zeros(32) },
    state: 'active',
  },
};
const ack = signAck(KEY, {
  emitter: EMITTER,
  boot: '7',
  tenant: 'acme',
  complete_to: '42',
  holes: [
    ['43', '43'],
    ['50', '61'],
  ],
  covered_to: '40',
  origin: ORIGIN,
  tree_size: '65537',
});
const { signature: _signature, ...unsignedAck } = ack;

const signatures = {
  private_key: { source: 'RFC 8032, section 7.1, test 1', seed: SEED, public_key: hex(KEY.publicKey) },
  emitter_id: EMITTER,
  vkeys: [
    {
      name: 'PeterNeumann',
      source: 'documentation of golang.org/x/mod/sumdb/note',
      public_key: '1a5cd907143c384c41e830c5bce12aa8817ec5649aaabf2c31388b35b2d744d6',
      vkey: 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW',
    },
    { name: ORIGIN, public_key: hex(KEY.publicKey), vkey: formatVkey(ORIGIN, KEY.publicKey) },
  ],
  event: {
    unsigned: heartbeat,
    canonical: canonicalJson(heartbeat),
    signature: signEvent(KEY, heartbeat),
  },
  ack: { unsigned: unsignedAck, canonical: canonicalJson(unsignedAck), signature: ack.signature },
};

const files = [
  { path: 'edict/policy.wasm', content: 'wasm' },
  { path: 'data.json', content: '{}' },
  { path: '.manifest', content: '{"revision":"1"}' },
  { path: '.signatures.json', content: 'not part of the digest' },
];
const bundle = bundleDigest(files.map(({ path, content }) => ({ path, bytes: Buffer.from(content, 'utf8') })));
const bundles = [bundle, sha256('another bundle')];
const digests = {
  bundle: { files, digest: digestText(bundle) },
  sets: [[bundle], bundles, [...bundles].reverse()].map((members) => ({
    bundles: members.map(digestText),
    digest: digestText(setDigest(members)),
  })),
};

/** The files, by name. */
export const vectorFiles = async (): Promise<ReadonlyMap<string, string>> => {
  const documents = {
    entries,
    genesis,
    payloads,
    tree: tree(),
    proofs: await proofs(),
    checkpoints: checkpoints(),
    witnesses: await witnesses(),
    signatures,
    digests,
  };
  const out = new Map<string, string>();
  for (const [name, document] of Object.entries(documents))
    out.set(`${name}.json`, await format(JSON.stringify(document), { parser: 'json', printWidth: 120 }));
  return out;
};

if (process.argv[1] === import.meta.filename) {
  const folder = join(import.meta.dirname, '..', 'docs', 'vectors');
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of await vectorFiles()) writeFileSync(join(folder, name), text);
}

import { gzipSync } from 'node:zlib';
import { unmetFilter } from '../../../services/audit/core/evidence-filter.ts';
import { VERDICTS, type VerdictName } from '../../../services/audit/core/verify-report.ts';
import { commitPayload, decodeEntry, encodeEntry, leafHash } from '../../../services/audit/core/entry.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { openCheckpoint, signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { openBundle, tarMember, tarOf, type Json } from '../core/evidence-bundle.ts';
import { fillEvidence, openEvidenceFixture, TENANT, type EvidenceFixture } from './evidence-fixture.ts';

type Bundle = ReturnType<typeof openBundle>;

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');
const bytesIn = (text: unknown): Buffer => Buffer.from(textOf(text), 'base64');
const without = (line: Json, name: string): Json =>
  Object.fromEntries(Object.entries(line).filter(([each]) => each !== name));
const flipped = (text: unknown, at: number): string => {
  const bytes = bytesIn(text);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes.toString('base64');
};

describe('an evidence bundle that somebody changed', () => {
  let fixture: EvidenceFixture;
  /** Of everything, of what came after the second checkpoint, of a filter. */
  const bundles = new Map<string, Buffer>();

  beforeAll(async () => {
    fixture = await openEvidenceFixture();
    const [, second] = await fillEvidence(fixture);
    bundles.set('whole', (await fixture.get('format=bundle')).bytes);
    bundles.set('range', (await fixture.get(`format=bundle&from=${second}`)).bytes);
    bundles.set('filter', (await fixture.get('format=bundle&subject=alice&decision=deny')).bytes);
  });
  afterAll(() => fixture.close());

  const red = async (bytes: Buffer, hasKey?: boolean): Promise<readonly VerdictName[]> => {
    const { report } = await fixture.verify(bytes, hasKey);
    return VERDICTS.filter((name) => report.verdicts[name].status === 'failed');
  };

  const editLine = (bundle: Bundle, index: number, change: (line: Json) => Json): void =>
    bundle.setLines(bundle.lines().map((line, at) => (at === index ? change(line) : line)));

  /** Writes the entries from `index` on anew, each with the hash of the one before it. */
  const relink = (lines: readonly Json[], index: number, changed: Json): readonly Json[] => {
    let before: Buffer | undefined;
    return lines.map((line, at) => {
      const written = at === index ? changed : line;
      const entry = decodeEntry(bytesIn(written['entry']));
      const bytes = encodeEntry(before === undefined || at <= index ? entry : { ...entry, prev: before });
      before = leafHash(bytes);
      return { ...written, entry: bytes.toString('base64') };
    });
  };

  /** Signs all notes of a bundle anew, with another key of the same name. */
  const signAnew = (bundle: Bundle): void => {
    const { key } = generateSigningKey();
    const verifier = parseVkey(formatVkey(fixture.log.origin, key.publicKey));
    const resigned = (note: Uint8Array): Buffer => {
      const checkpoint = openCheckpoint(note, fixture.vkey);
      if (checkpoint === undefined) throw new Error('no checkpoint');
      return signCheckpoint(checkpoint, key, verifier);
    };
    bundle.of('keys/log.vkey').bytes = Buffer.from(`${formatVkey(fixture.log.origin, key.publicKey)}\n`);
    bundle.of('checkpoint').bytes = resigned(bundle.of('checkpoint').bytes);
    const start = bundle.about()['start'] as Json;
    if (start['checkpoint'] !== null)
      bundle.setAbout({
        start: { ...start, checkpoint: resigned(Buffer.from(textOf(start['checkpoint']))).toString() },
      });
    bundle.setLines(
      bundle
        .lines()
        .map(({ checkpoint, ...line }) =>
          checkpoint === undefined
            ? line
            : { ...line, checkpoint: resigned(Buffer.from(textOf(checkpoint))).toString() },
        ),
    );
  };

  it('is good as long as nobody does', async () => {
    for (const bytes of bundles.values()) {
      expect(await red(bytes)).toEqual([]);
      expect(await red(openBundle(bytes).mended())).toEqual([]);
    }
  });

  it('is red in something wherever a bit of it is another', async () => {
    const good = bundles.get('filter') ?? Buffer.alloc(0);
    for (let n = 0; n < 20; n += 1) {
      const at = (n * 7_919 + 13) % good.length;
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (n % 8));
      expect([at, (await red(bytes)).length]).not.toEqual([at, 0]);
    }
  }, 60_000);

  type Case = readonly [
    what: string,
    of: string,
    change: (bundle: Bundle) => Buffer | void,
    red: readonly VerdictName[],
  ];
  const cases: readonly Case[] = [
    [
      'a byte of a payload, and nothing else',
      'whole',
      (bundle) => {
        editLine(bundle, 2, (line) => ({ ...line, payload: flipped(line['payload'], 40) }));
        return bundle.bytes();
      },
      ['integrity'],
    ],
    [
      'a byte of a payload',
      'whole',
      (bundle) => editLine(bundle, 2, (line) => ({ ...line, payload: flipped(line['payload'], 40) })),
      ['integrity'],
    ],
    [
      'a salt',
      'whole',
      (bundle) => editLine(bundle, 2, (line) => ({ ...line, salt: flipped(line['salt'], 0) })),
      ['integrity'],
    ],
    [
      'a content type',
      'range',
      (bundle) => editLine(bundle, 2, (line) => ({ ...line, content_type: 'application/json' })),
      ['integrity'],
    ],
    [
      'a byte of a header',
      'whole',
      (bundle) => editLine(bundle, 2, (line) => ({ ...line, entry: flipped(line['entry'], 17) })),
      ['append_only', 'integrity'],
    ],
    [
      'a payload, with every hash behind it',
      'whole',
      (bundle) => {
        const lines = bundle.lines();
        const line = lines[2] ?? {};
        const payload = Buffer.from(bytesIn(line['payload']).toString().replace('hr.salaries', 'hr.holidays'));
        const commitment = commitPayload(bytesIn(line['salt']), textOf(line['content_type']), payload);
        const entry = encodeEntry({ ...decodeEntry(bytesIn(line['entry'])), commitment });
        const changed = { ...line, entry: entry.toString('base64'), payload: payload.toString('base64') };
        bundle.setLines(relink(lines, 2, changed));
      },
      // The emitter's next event names the digest of the one that was.
      ['append_only', 'completeness'],
    ],
    [
      'a line, removed',
      'range',
      (bundle) => bundle.setLines(bundle.lines().toSpliced(4, 1)),
      ['append_only', 'integrity', 'completeness'],
    ],
    [
      'two lines, swapped',
      'range',
      (bundle) => {
        const [a, b, ...rest] = bundle.lines();
        bundle.setLines([b, a, ...rest]);
      },
      ['append_only', 'integrity'],
    ],
    [
      'a line, doubled',
      'range',
      (bundle) => bundle.setLines(bundle.lines().flatMap((line, at) => (at === 4 ? [line, line] : [line]))),
      ['append_only', 'integrity', 'completeness'],
    ],
    [
      'the last line, removed',
      'range',
      (bundle) => bundle.setLines(bundle.lines().slice(0, -1)),
      ['append_only', 'completeness'],
    ],
    ['the end of the file, cut off', 'whole', (bundle) => bundle.bytes().subarray(0, -2_000), ['integrity']],
    [
      'the root of the checkpoint',
      'range',
      (bundle) => {
        const note = bundle.of('checkpoint');
        note.bytes = Buffer.from(note.bytes.toString().replace(/\n(\d+)\n.{43}=/, `\n$1\n${'A'.repeat(43)}=`));
      },
      ['authenticity'],
    ],
    [
      'the checkpoint, replaced by an older one',
      'range',
      (bundle) => void (bundle.of('checkpoint').bytes = Buffer.from(textOf(bundle.lines()[300]?.['checkpoint']))),
      ['authenticity'],
    ],
    [
      'a checkpoint in the middle, removed',
      'whole',
      (bundle) => editLine(bundle, 4, (line) => without(line, 'checkpoint')),
      ['append_only'],
    ],
    ['the key and every signature', 'whole', signAnew, ['authenticity', 'integrity']],
    ['the key and every signature', 'range', signAnew, ['authenticity']],
    [
      'a hash of the tree before',
      'range',
      (bundle) => {
        const start = bundle.about()['start'] as { subtrees: string[] };
        bundle.setAbout({ start: { ...start, subtrees: start.subtrees.map((hash) => flipped(hash, 3)) } });
      },
      ['append_only'],
    ],
    [
      'a hash of a proof',
      'filter',
      (bundle) =>
        editLine(bundle, 1, (line) => ({
          ...line,
          proof: (line['proof'] as string[]).map((hash) => flipped(hash, 3)),
        })),
      ['append_only'],
    ],
    ['the order of what was found', 'filter', (bundle) => bundle.setLines(bundle.lines().reverse()), ['integrity']],
    [
      'a payload, replaced by another entry’s',
      'filter',
      (bundle) => {
        const [{ salt, payload } = {}] = bundle.lines();
        editLine(bundle, 1, (line) => ({ ...line, salt, payload }));
      },
      ['integrity'],
    ],
    [
      'the filter that is said to have been asked',
      'filter',
      (bundle) => bundle.setAbout({ filter: { subject: 'alice', subject_type: 'user', decision: 'allow' } }),
      ['projection'],
    ],
    [
      'the agent in the filter',
      'filter',
      (bundle) => bundle.setAbout({ filter: { subject: 'alice', subject_type: 'user', chain: ['writer'] } }),
      ['projection'],
    ],
    [
      'the filter, by a name that every object has',
      'filter',
      (bundle) => bundle.setAbout({ filter: { subject: 'alice', valueOf: 'x' } }),
      ['integrity'],
    ],
    [
      'the time that is said to have been asked',
      'range',
      (bundle) => bundle.setAbout({ filter: { from: '2020-01-01T00:00:00.000Z' } }),
      ['completeness'],
    ],
    [
      'who is said to have asked, by something that is no name',
      'range',
      (bundle) => {
        bundle.setAbout({ by: 5 });
        return bundle.bytes();
      },
      ['integrity'],
    ],
    ['the tenant', 'range', (bundle) => bundle.setAbout({ tenant: 'globex' }), ['integrity']],
    ['the origin', 'range', (bundle) => bundle.setAbout({ origin: 'audit.example.com/globex/0/1' }), ['authenticity']],
    ['the size', 'range', (bundle) => bundle.setAbout({ size: '309' }), ['authenticity', 'append_only']],
    [
      'a payload, said to be gone',
      'whole',
      (bundle) => editLine(bundle, 2, ({ seq, entry }) => ({ seq, entry, gone: 'no_key' })),
      ['lifecycle'],
    ],
    [
      'a count in the manifest',
      'whole',
      (bundle) => {
        bundle.setManifest({ counts: { ...(bundle.manifest()['counts'] as Json), entries: '309' } });
        return bundle.bytes();
      },
      ['integrity'],
    ],
    [
      'the policies in the manifest',
      'whole',
      (bundle) =>
        bundle.setManifest({ policies: [{ set: `sha256:${'0'.repeat(64)}`, decisions: '305', bundles: [] }] }),
      ['integrity'],
    ],
    [
      'the bundles of a policy set',
      'whole',
      (bundle) => {
        const [policy] = bundle.manifest()['policies'] as readonly Json[];
        bundle.setManifest({ policies: [{ ...policy, bundles: [`sha256:${'ab'.repeat(32)}`] }] });
      },
      ['integrity'],
    ],
    [
      'what the README says',
      'filter',
      (bundle) => {
        bundle.of('README.md').bytes = Buffer.from('Believe it.\n');
        return bundle.bytes();
      },
      ['integrity'],
    ],
  ];

  it.each(cases)('%s (%s) is found', async (_what, of, change, expected) => {
    const bundle = openBundle(bundles.get(of) ?? Buffer.alloc(0));
    const bytes = change(bundle) ?? bundle.mended();
    expect(await red(bytes)).toEqual(expected);
  });

  it('signed anew is only found with a key that the auditor holds, or from entry 0', async () => {
    for (const name of ['whole', 'range']) {
      const bundle = openBundle(bundles.get(name) ?? Buffer.alloc(0));
      signAnew(bundle);
      expect(await red(bundle.mended(), false)).toEqual(name === 'whole' ? ['integrity'] : []);
    }
  });

  const line = (bundle: Bundle, text: string): Buffer => {
    bundle.of('entries/00000001.ndjson').bytes = Buffer.from(text);
    return bundle.bytes();
  };
  const withHeader = (bundle: Bundle, name: string, header: Buffer): Buffer => {
    const at = bundle.members.findIndex((member) => member.name === name);
    return Buffer.concat([
      tarOf(bundle.members.slice(0, at)).subarray(0, -1_024),
      header,
      tarOf(bundle.members.slice(at + 1)),
    ]);
  };
  const hostile: readonly (readonly [what: string, change: (bundle: Bundle) => Buffer, names: string])[] = [
    ['is empty', () => Buffer.alloc(0), 'README.md'],
    ['is compressed', (bundle) => gzipSync(bundle.bytes()), 'README.md'],
    [
      'has a member more',
      ({ members }) => tarOf([...members.slice(0, 5), { name: 'extra', bytes: Buffer.from('x') }, ...members.slice(5)]),
      'entries/00000002.ndjson',
    ],
    [
      'has a member twice',
      ({ members }) => tarOf([...members.slice(0, 5), ...members.slice(4)]),
      'entries/00000002.ndjson',
    ],
    [
      'has a name that climbs',
      ({ members }) => tarOf([{ name: '../../README.md', bytes: Buffer.from('x') }, ...members.slice(1)]),
      'README.md',
    ],
    [
      'has a link',
      (bundle) => withHeader(bundle, 'about.json', tarMember({ name: 'about.json', bytes: Buffer.alloc(0) }, '2')),
      'about.json',
    ],
    [
      'has a member of 8 GiB',
      (bundle) => {
        const header = tarMember({ name: 'checkpoint', bytes: Buffer.alloc(0) });
        header.write('77777777777\0', 124);
        header.write('        ', 148);
        header.write(
          `${header
            .reduce((sum, byte) => sum + byte, 0)
            .toString(8)
            .padStart(6, '0')}\0 `,
          148,
        );
        return withHeader(bundle, 'checkpoint', header);
      },
      'checkpoint',
    ],
    [
      'has a wrong check sum',
      (bundle) => {
        const bytes = bundle.bytes();
        bytes.write('7', 148);
        return bytes;
      },
      'README.md',
    ],
    [
      'has something behind the end of a member',
      (bundle) => {
        const bytes = bundle.bytes();
        bytes[Math.ceil((512 + (bundle.members[0]?.bytes.length ?? 0)) / 512) * 512 - 1] = 1;
        return bytes;
      },
      'README.md',
    ],
    ['has something behind its end', (bundle) => Buffer.concat([bundle.bytes(), Buffer.from('x')]), 'manifest.json'],
    ['has no end', (bundle) => bundle.bytes().subarray(0, -512), 'manifest.json'],
    ['has a line that is no JSON', (bundle) => line(bundle, '{"seq":\n'), 'entries/00000001.ndjson'],
    ['has a line that does not end', (bundle) => line(bundle, '{}'), 'entries/00000001.ndjson'],
    [
      'has a line with another member',
      (bundle) => line(bundle, `${JSON.stringify({ ...bundle.lines()[0], note: 'x' })}\n`),
      'entries/00000001.ndjson',
    ],
    [
      'has base64 in another spelling',
      (bundle) => line(bundle, `${JSON.stringify({ ...bundle.lines()[0], entry: 'AB==' })}\n`),
      'entries/00000001.ndjson',
    ],
    [
      'has an entry that is there and gone',
      (bundle) => line(bundle, `${JSON.stringify({ ...bundle.lines()[0], gone: 'missing' })}\n`),
      'entries/00000001.ndjson',
    ],
    [
      'says more of itself than there is to say',
      (bundle) => {
        bundle.setAbout({ note: 'x' });
        return bundle.bytes();
      },
      'about.json',
    ],
    [
      'has a filter that nobody can ask',
      (bundle) => {
        bundle.setAbout({ filter: { colour: 'red' } });
        return bundle.bytes();
      },
      'about.json',
    ],
    ...['constructor', 'toString', 'valueOf'].map((name): (typeof hostile)[number] => [
      `has a line with ${name}, which every object has`,
      (bundle) => line(bundle, `${JSON.stringify({ ...bundle.lines()[0], [name]: 'x' })}\n`),
      'entries/00000001.ndjson',
    ]),
    [
      'has a start that is no tree',
      (bundle) => {
        bundle.setAbout({ start: { size: '3', subtrees: [], checkpoint: null } });
        return bundle.bytes();
      },
      'about.json',
    ],
  ];

  it('and no decision meets a filter by what every object has', () => {
    const [, decision] = openBundle(bundles.get('whole') ?? Buffer.alloc(0)).lines();
    const event = JSON.parse(bytesIn(decision?.['payload']).toString()) as Json;
    for (const name of ['constructor', 'toString', 'valueOf'])
      expect(unmetFilter({ [name]: 'x' }, event, textOf(event['id']), TENANT)).toBe(name);
    expect(unmetFilter({ subject: 'alice' }, event, textOf(event['id']), TENANT)).toBeUndefined();
  });

  it.each(hostile)('and that %s is refused, by the member’s name', async (_what, change, names) => {
    const bytes = change(openBundle(bundles.get('whole') ?? Buffer.alloc(0)));
    expect(await red(bytes)).toEqual(['integrity']);
    const { report } = await fixture.verify(bytes);
    expect(report.verdicts.integrity.firstBad).toMatchObject({ what: `member ${names}`, attack: 'bundle_edited' });
    expect(report.verdicts.append_only.status).toBe('not_checked');
  });
});

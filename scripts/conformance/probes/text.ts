import { object } from './values.ts';
import type { Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generators } from './generators.ts';
import type { Random } from './random.ts';
import { anyNumber, anyText, anyValue, collection, damaged, maybeDamaged } from './values.ts';

const VERBS = 'dvsqxXobeEfFgGtTcUp%';
const FLAGS = ['', '', '', '-', '+', '#', '0', ' ', '+#', '-0', '+ '];
const WIDTHS = ['', '', '', '1', '5', '12', '30', '*', '[1]', '[2]*'];
const PRECISIONS = ['', '', '', '.', '.0', '.1', '.2', '.5', '.20', '.*'];

const directive = (random: Random): string =>
  `%${random.pick(FLAGS)}${random.pick(WIDTHS)}${random.pick(PRECISIONS)}${random.pick(Array.from(VERBS))}`;

const sprintfArgs = (random: Random): readonly Value[] => {
  const parts = random.many(1, 3, () =>
    random.chance(0.4)
      ? `%${random.pick(Array.from(VERBS))}`
      : random.chance(0.8)
        ? directive(random)
        : anyText(random),
  );
  const values = random.many(0, 4, () => (random.chance(0.6) ? anyNumber(random) : anyValue(random, 2)));
  return [parts.join(random.pick(['', ' ', '|'])), values];
};

const TEMPLATES = [
  '{{.}}',
  '{{.a}}',
  '{{.a.b}}',
  '{{.missing}}',
  'x{{- .a -}}y',
  '{{ .a | printf "%v" }}',
  '{{printf "%s-%d" .a 3}}',
  '{{range .list}}[{{.}}]{{end}}',
  '{{range $i, $e := .list}}{{$i}}={{$e}};{{else}}none{{end}}',
  '{{len .list}}',
  '{{range $k, $v := .map}}{{$k}}:{{$v}} {{end}}',
  '{{if .a}}yes{{else}}no{{end}}',
  '{{with .a}}{{.}}{{end}}',
  '{{if and .a .b}}1{{end}}',
  '{{if or .a .b}}1{{end}}',
  '{{if not .a}}1{{end}}',
  '{{if eq .a "x"}}1{{else}}2{{end}}',
  '{{index .list 0}}',
  '{{index .map "k"}}',
  '{{slice .a 1 2}}',
  '{{html .a}}',
  '{{js .a}}',
  '{{urlquery .a}}',
  '{{define "t"}}<{{.}}>{{end}}{{template "t" .a}}',
  '{{/* nothing */}}',
  '{{"a\\n"}}',
  '{{`raw`}}',
  '{{1}}',
  '{{true}}',
  '{{',
  '}}',
  '{{end}}',
  '{{.a',
  '{{unknown .a}}',
  '{{if lt 1 2}}l{{end}}',
  '{{$x := .a}}{{$x}}',
  '{{nil}}',
  '{{.a}}{{.b}}',
];

const templateArgs = (random: Random): readonly Value[] => {
  const simple = (): Value => (random.chance(0.5) ? anyText(random) : anyNumber(random));
  const values = object({
    a: random.chance(0.7) ? simple() : anyValue(random, 1),
    b: random.chance(0.5) ? random.pick<Value>([true, false, null, 0, '']) : simple(),
    list: random.many(0, 3, simple),
    map: object({ k: simple(), z: simple() }),
  });
  return [maybeDamaged(random, random.pick(TEMPLATES), '{}.| "a', 0.15), values];
};

const UNITS = [
  '',
  'm',
  'K',
  'M',
  'G',
  'T',
  'P',
  'E',
  'k',
  'g',
  'Ki',
  'Mi',
  'Gi',
  'Ti',
  'Pi',
  'Ei',
  'KB',
  'kb',
  'MiB',
  'kib',
  'B',
  'b',
];
const AMOUNTS = [
  '1',
  '0',
  '10',
  '1.5',
  '.5',
  '5.',
  '-1',
  '+1',
  '1e3',
  '1E-2',
  '1e',
  '0.1',
  '100.25',
  '12345678901234567890',
  '007',
  '1_0',
  ' 1',
  '1 ',
  '"10"',
  '',
];

const amount = (random: Random): readonly Value[] => [
  maybeDamaged(
    random,
    `${random.pick(AMOUNTS)}${random.pick(['', '', ' '])}${random.pick(UNITS)}`,
    '0123.eE-+ "kKiB',
    0.2,
  ),
];

const parts = (random: Random): string =>
  random.many(0, 5, () => random.pick(['a', 'b', 'ab', '', ',', 'é', '👍'])).join('');

const VERSIONS = [
  '1.0.0',
  '1.2.3',
  '0.0.0',
  '1.2.3-alpha',
  '1.2.3-alpha.1',
  '1.2.3-1',
  '1.2.3-01',
  '1.2.3+build',
  '1.2.3-rc.1+b.5',
  '10.20.30',
  'v1.2.3',
  '1.2',
  '1',
  '01.2.3',
  '1.2.3-',
  '1.2.3+',
  '99999999999999999999.0.0',
  '1.2.3-a.b.c',
  '1.2.3--',
  '1.0.0-é',
];
const version = (random: Random): string => maybeDamaged(random, random.pick(VERSIONS), '0123.-+av', 0.25);

const UUIDS = [
  '00000000-0000-0000-0000-000000000000',
  'f47ac10b-58cc-4372-a567-0e02b2c3d479',
  '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
  '017f22e2-79b0-7cc3-98c4-dc0c0c07398f',
  '{f47ac10b-58cc-4372-a567-0e02b2c3d479}',
  'urn:uuid:f47ac10b-58cc-4372-a567-0e02b2c3d479',
  'f47ac10b58cc4372a5670e02b2c3d479',
  'F47AC10B-58CC-2372-C567-0E02B2C3D479',
  'f47ac10b-58cc-5372-e567-0e02b2c3d479',
  '000003e8-0000-21e9-9300-325096b39f47',
];

const affixes = (random: Random): Value =>
  random.chance(0.4)
    ? parts(random)
    : collection(random, () => (random.chance(0.95) ? parts(random) : anyValue(random, 1)));

export const textGenerators: Generators = {
  sprintf: sprintfArgs,
  'strings.render_template': templateArgs,
  'strings.any_prefix_match': (random) => [affixes(random), affixes(random)],
  'strings.any_suffix_match': (random) => [affixes(random), affixes(random)],
  'strings.count': (random) => [parts(random) + parts(random), random.pick(['a', 'b', 'ab', '', 'é', '👍', ','])],
  'strings.split_n': (random) => [
    random.chance(0.5) ? parts(random) : anyText(random),
    random.pick(['', ',', 'a', 'ab', ' ', 'é', '/']),
    random.chance(0.7) ? random.int(-4, 6) : anyNumber(random),
  ],
  indexof_n: (random) => [parts(random) + parts(random), random.pick(['a', 'b', 'ab', 'é', '👍', '', ',', 'zz'])],
  'units.parse': amount,
  'units.parse_bytes': amount,
  'semver.compare': (random) => [version(random), version(random)],
  'semver.is_valid': (random) => [version(random)],
  'uuid.parse': (random) => [maybeDamaged(random, random.pick(UUIDS), '0123456789abcdefABCDEF-{}')],
  'uuid.rfc4122': (random) => [anyText(random)],
  'glob.quote_meta': (random) => [
    random.chance(0.6) ? damaged(random, 'a*b?c[d]{e}\\', '*?[]{}\\-!') : anyText(random),
  ],
  trace: (random) => [anyText(random)],
};

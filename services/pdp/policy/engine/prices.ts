/*
 * What built-ins that the host supplies cost, in units of fuel, so that they end with the evaluation that calls them.
 * A unit is some 4 ns of the machine that the built-ins were measured on, where one of the module's own is 1 to 4 ns
 * (`npm run bench -- runaway`). Prices depend on nothing but arguments and results: a replay pays the same. What can be
 * known before the work is charged before it, caches are not counted on, and doubt makes a price higher.
 */

/** Takes units from the evaluation's counter. Throws `OutOfFuel` when there are not that many left. */
export type Spend = (units: number) => void;

export interface Price {
  /** For the call. */
  readonly call: number;
  /** For each byte of its arguments. */
  readonly byte: number;
}

const price = (call: number, byte: number): Price => ({ call, byte });

/** Work that is linear and light: comparing, cutting, casting. */
const USUAL = price(800, 4);
const DIGEST = price(3_500, 1);
const HMAC = price(4_000, 1);
const TIME = price(8_000, 12);
const PATTERN = price(6_000, 1);
/** Libraries written for completeness, not for speed. */
const YAML = price(10_000, 500);
const SCHEMA = price(12_000, 300);
const GRAPHQL = price(250_000, 2_000);
/** Reading keys and certificates: numbers, points on curves, and their encodings. */
const KEYS = price(10_000, 60);
const PRIVATE_KEYS = price(20_000, 250);
const TOKEN = price(6_000, 8);

const PRICES: Readonly<Record<string, Price>> = {
  'crypto.md5': DIGEST,
  'crypto.sha1': DIGEST,
  'crypto.sha256': DIGEST,
  'crypto.hmac.equal': DIGEST,
  'crypto.hmac.md5': HMAC,
  'crypto.hmac.sha1': HMAC,
  'crypto.hmac.sha256': HMAC,
  'crypto.hmac.sha512': HMAC,
  'crypto.parse_private_keys': PRIVATE_KEYS,
  'crypto.x509.parse_and_verify_certificates': KEYS,
  'crypto.x509.parse_and_verify_certificates_with_options': KEYS,
  'crypto.x509.parse_certificate_request': KEYS,
  'crypto.x509.parse_certificates': KEYS,
  'crypto.x509.parse_keypair': PRIVATE_KEYS,
  'crypto.x509.parse_rsa_private_key': PRIVATE_KEYS,
  'graph.reachable_paths': price(1_000, 16),
  'graphql.is_valid': GRAPHQL,
  'graphql.parse': GRAPHQL,
  'graphql.parse_and_verify': GRAPHQL,
  'graphql.parse_query': price(10_000, 200),
  'graphql.parse_schema': price(10_000, 200),
  'graphql.schema_is_valid': GRAPHQL,
  'hex.decode': price(600, 20),
  'io.jwt.decode': TOKEN,
  'io.jwt.decode_verify': price(10_000, 40),
  'io.jwt.encode_sign': price(10_000, 40),
  'io.jwt.encode_sign_raw': price(10_000, 40),
  'io.jwt.verify_hs256': TOKEN,
  'io.jwt.verify_hs384': TOKEN,
  'io.jwt.verify_hs512': TOKEN,
  'json.marshal_with_options': price(1_000, 80),
  'json.match_schema': SCHEMA,
  'json.patch': price(2_000, 120),
  'json.verify_schema': SCHEMA,
  'net.cidr_contains_matches': price(1_000, 40),
  'net.cidr_merge': price(1_000, 500),
  'providers.aws.sign_req': price(12_000, 40),
  'rand.intn': price(6_000, 4),
  'regex.find_n': PATTERN,
  'regex.globs_match': PATTERN,
  'regex.replace': PATTERN,
  'regex.split': PATTERN,
  'regex.template_match': PATTERN,
  'strings.any_prefix_match': price(600, 12),
  'strings.any_suffix_match': price(600, 24),
  'strings.count': price(600, 16),
  'strings.render_template': price(2_000, 40),
  sprintf: price(2_000, 12),
  'time.add_date': TIME,
  'time.clock': TIME,
  'time.date': TIME,
  'time.diff': TIME,
  'time.format': TIME,
  'time.now_ns': price(200, 0),
  'time.parse_ns': TIME,
  'time.parse_rfc3339_ns': TIME,
  'time.weekday': TIME,
  'uri.is_valid': price(1_500, 60),
  'uri.parse': price(1_500, 60),
  'urlquery.decode_object': price(600, 32),
  'uuid.rfc4122': price(12_000, 4),
  'yaml.is_valid': YAML,
  'yaml.marshal': price(1_500, 80),
  'yaml.unmarshal': YAML,
};

/** The keys of a token: reading them is part of it; each verification is charged by its key (`key-cost.ts`). */
const KEYED_TOKEN = price(10_000, 40);

export const priceOf = (name: string): Price =>
  PRICES[name] ?? (name.startsWith('io.jwt.verify_') ? KEYED_TOKEN : USUAL);

/** Reading a byte of an argument: a text as it lies in memory, any other value by way of its text. */
export const READ_TEXT_BYTE = 1;
export const READ_VALUE_BYTE = 4;
/** A character of what is put in order, for each doubling of how many there are beyond a few, which reading pays. */
export const ORDER_CHAR = 1;
export const FEW = 16;
/** Printing a byte of a result. */
export const WRITE_BYTE = 3;

/** What a built-in makes without a bound in its arguments: an address, a number, a node of a path, a step. */
export const MADE = {
  address: 800,
  number: 120,
  pathNode: 100,
  templateStep: 160,
  match: 160,
  piece: 8,
  patched: 80,
  /** Of a patch: a value that is known by its text, one that is put in order, once for each doubling, an element. */
  identified: 160,
  ordered: 24,
  element: 4,
} as const;
/** One network held against another. */
export const NETWORK_PAIR = 120;
/** One step of a validation. */
export const SCHEMA_STEP = 60;
/** An error that a validation tells, and one that it only hands on. */
export const SCHEMA_ERROR = 120;
export const SCHEMA_ERROR_MOVED = 4;
/** A name or a value that a step of a validation looks up, and a part of a value that it compares as text. */
export const SCHEMA_LOOK = 12;
export const SCHEMA_COMPARED = 40;
/** A pair of characters of two globs. */
export const GLOB_PAIR = 25;
/** One directive of a format, and one that prints a double. */
export const DIRECTIVE = 100;
export const FLOAT_DIRECTIVE = 1_500;

/** Reading or printing an integer of many digits, or making a power of ten: more than linear. */
export const digitsCost = (digits: number): number => digits * (10 + (digits >> 10));

/** Of a pattern of `size`, instructions at most: to compile it, and to hold it against one UTF-16 unit of text. */
export const compileCost = (size: number): number => size * 160;
export const matchCost = (size: number, units: number): number => units * (10 + size);

/** A signature by a shared secret. */
export const HMAC_COST = 3_000;

const KIBIBIT = 1024;
/** A verification with an RSA key grows with the square of its size, a signature with the cube. */
export const rsaVerifyCost = (bits: number): number => Math.ceil(6_000 * (1 + (bits / KIBIBIT) ** 2));
export const rsaSignCost = (bits: number): number => Math.ceil(30_000 * (1 + (bits / KIBIBIT) ** 3));
/** Curves other than P-256 and Ed25519 have no fast code in OpenSSL. */
export const ecVerifyCost = (curveBytes: number): number => (curveBytes <= 32 ? 30_000 : 500_000);
export const ecSignCost = (curveBytes: number): number => (curveBytes <= 32 ? 60_000 : 800_000);

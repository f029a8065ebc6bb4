import { array, BuiltinError, BuiltinHalt, type Builtins, MAX_ITEMS, members, text } from './builtin.ts';
import { type IpAddress, ipText, parseIp } from './ip-address.ts';
import { MADE, NETWORK_PAIR, type Spend } from './prices.ts';
import { isArray, RegoObject, RegoSet, type Value } from './value.ts';

/** A network, IPv4 wherever it holds such addresses only. */
interface Network {
  readonly bits: 32 | 128;
  /** Its first address. */
  readonly first: bigint;
  readonly prefix: number;
}

const MAPPED_PREFIX = 96;
const MAPPED = 0xffffn;

const isMapped = (number: bigint): boolean => number >> 32n === MAPPED;

/** `::ffff:1.2.3.4` is `1.2.3.4`, as for Go's `net`. */
const unmapped = ({ bits, number }: IpAddress): { readonly bits: 32 | 128; readonly number: bigint } =>
  bits === 128 && isMapped(number) ? { bits: 32, number: number & 0xffffffffn } : { bits, number };

const hostMask = (bits: number, prefix: number): bigint => (1n << BigInt(bits - prefix)) - 1n;

const networkOf = (bits: 32 | 128, number: bigint, prefix: number): Network => {
  const first = number & ~hostMask(bits, prefix);
  return bits === 128 && prefix >= MAPPED_PREFIX && isMapped(first)
    ? { bits: 32, first: first & 0xffffffffn, prefix: prefix - MAPPED_PREFIX }
    : { bits, first, prefix };
};

const lastOf = ({ bits, first, prefix }: Network): bigint => first | hostMask(bits, prefix);

/** `10.0.0.0/8` (RFC 4632), `2001:db8::/32`; undefined when it is none. */
const parseCidr = (value: string): Network | undefined => {
  const slash = value.indexOf('/');
  const address = slash < 0 ? undefined : parseIp(value.slice(0, slash));
  const prefix = value.slice(slash + 1);
  if (address === undefined || address.zone !== '' || !/^[0-9]+$/.test(prefix)) return undefined;
  const length = Number(prefix);
  return length > address.bits ? undefined : networkOf(address.bits, address.number, length);
};

const cidr = (value: Value | undefined): Network => {
  const network = parseCidr(text(value));
  if (network === undefined) throw new BuiltinError('a CIDR expected');
  return network;
};

const expand = (spend: Spend, network: Network): Value => {
  const last = lastOf(network);
  const count = last - network.first + 1n;
  if (count > MAX_ITEMS) throw new BuiltinHalt(`a network of ${count} addresses`);
  spend(Number(count) * MADE.address);
  return RegoSet.of(
    Array.from({ length: Number(count) }, (_, index) => ipText(network.bits, network.first + BigInt(index))),
  );
};

/** A network, or an address: a network of one. */
const cidrOrAddress = (value: Value | undefined): Network => {
  const address = parseIp(text(value));
  if (address === undefined || address.zone !== '') return cidr(value);
  const { bits, number } = unmapped(address);
  return { bits, first: number, prefix: bits };
};

const contains = (outer: Network, inner: Network): boolean =>
  outer.bits === inner.bits &&
  outer.prefix <= inner.prefix &&
  outer.first === (inner.first & ~hostMask(outer.bits, outer.prefix));

interface Candidate {
  /** What stands for it in the answer: its index, its key or itself. */
  readonly index: Value;
  readonly cidr: Value | undefined;
}

/** In a collection the network may stand in front of other things. */
const cidrIn = (item: Value): Value | undefined => {
  if (typeof item === 'string') return item;
  const items = array(item);
  if (items.length === 0) throw new BuiltinError('a string or a list that begins with one expected');
  return items[0];
};

const candidatesOf = (value: Value | undefined): readonly Candidate[] => {
  if (typeof value === 'string') return [{ index: value, cidr: value }];
  if (value instanceof RegoSet) return value.items.map((item) => ({ index: item, cidr: cidrIn(item) }));
  if (value instanceof RegoObject) return value.entries.map(([index, item]) => ({ index, cidr: cidrIn(item) }));
  if (value === undefined || value === null || typeof value !== 'object' || !isArray(value)) return [];
  return value.map((item, index) => ({ index, cidr: cidrIn(item) }));
};

// Each network is held against each other one.
const MAX_PAIRS = 10_000_000;

const containsMatches = (spend: Spend, outer: Value | undefined, inner: Value | undefined): Value => {
  const outers = candidatesOf(outer);
  if (outers.length === 0) return RegoSet.of([]);
  const inners = candidatesOf(inner);
  if (inners.length === 0) return RegoSet.of([]);
  if (outers.length * inners.length > MAX_PAIRS) throw new BuiltinHalt('too many networks');
  spend(outers.length * inners.length * NETWORK_PAIR);
  const networks = inners.map((candidate) => ({ index: candidate.index, network: cidrOrAddress(candidate.cidr) }));
  const pairs: Value[] = [];
  for (const candidate of outers) {
    const network = cidr(candidate.cidr);
    for (const other of networks)
      if (contains(network, other.network) && pairs.push([candidate.index, other.index]) > MAX_ITEMS)
        throw new BuiltinHalt('too many matches');
  }
  return RegoSet.of(pairs);
};

/** Addresses from the first to the last, all as IPv6: an IPv6 network may hold the IPv4 ones (`::ffff:0:0/96`). */
interface Range {
  readonly first: bigint;
  readonly last: bigint;
  /** How it was written; undefined once it is several. */
  readonly cidr?: string;
}

const MAPPED_START = MAPPED << 32n;

const asIpv6 = (bits: 32 | 128, number: bigint): bigint => (bits === 32 ? number | MAPPED_START : number);

const rangeOfNetwork = (network: Network, written: string): Range => ({
  first: asIpv6(network.bits, network.first),
  last: asIpv6(network.bits, lastOf(network)),
  cidr: written,
});

const classPrefix = (number: bigint): number => {
  if (number >> 31n === 0n) return 8;
  return number >> 30n === 0b10n ? 16 : 24;
};

/** An IPv4 address without a prefix has that of its class (RFC 791), and class D and E 24. */
const rangeOf = (value: Value): Range => {
  const address = parseIp(text(value));
  if (address === undefined || address.zone !== '') {
    const network = cidr(value);
    return rangeOfNetwork(network, `${ipText(network.bits, network.first)}/${network.prefix}`);
  }
  const { bits, number } = unmapped(address);
  if (bits !== 32) throw new BuiltinError('an IPv6 address without a prefix');
  const prefix = classPrefix(number);
  return rangeOfNetwork(networkOf(bits, number, prefix), `${ipText(bits, number)}/${prefix}`);
};

const trailingZeros = (number: bigint, most: number): number => {
  let zeros = 0;
  while (zeros < most && ((number >> BigInt(zeros)) & 1n) === 0n) zeros += 1;
  return zeros;
};

/** The fewest networks that make up the range. */
const networksOf = ({ first, last }: Range): readonly string[] => {
  const bits = isMapped(first) ? 32 : 128;
  const networks: string[] = [];
  for (let start = first; start <= last;) {
    let host = trailingZeros(start, bits);
    while (start + (1n << BigInt(host)) - 1n > last) host -= 1;
    networks.push(`${ipText(bits, start)}/${bits - host}`);
    start += 1n << BigInt(host);
  }
  return networks;
};

/** Networks that overlap or stand side by side, but not an IPv4 and an IPv6 one side by side. */
const isJoined = (lower: Range, upper: Range): boolean =>
  upper.first <= lower.last || (upper.first === lower.last + 1n && isMapped(upper.first) === isMapped(lower.last));

const merge = (values: readonly Value[]): Value => {
  const ranges = values.map(rangeOf).sort((a, b) => (a.first < b.first ? -1 : Number(a.first > b.first)));
  const merged: Range[] = [];
  for (const range of ranges) {
    const previous = merged.at(-1);
    if (previous !== undefined && isJoined(previous, range)) {
      const last = previous.last > range.last ? previous.last : range.last;
      merged[merged.length - 1] = { first: previous.first, last };
    } else merged.push(range);
  }
  return RegoSet.of(merged.flatMap((range) => (range.cidr === undefined ? networksOf(range) : [range.cidr])));
};

export const netBuiltins: Builtins = {
  'net.cidr_contains_matches': ({ spend }, outer, inner) => containsMatches(spend, outer, inner),
  'net.cidr_expand': ({ spend }, network) => expand(spend, cidr(network)),
  'net.cidr_is_valid': (_context, value) => typeof value === 'string' && parseCidr(value) !== undefined,
  'net.cidr_merge': (_context, values) => merge(members(values)),
};

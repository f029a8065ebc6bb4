/** An address: its bits as a number. An IPv4 address that is written as IPv6 (`::ffff:1.2.3.4`) has 128. */
export interface IpAddress {
  readonly bits: 32 | 128;
  readonly number: bigint;
  /** `en0` of `fe80::1%en0`; empty without one. */
  readonly zone: string;
}

const parseIpv4 = (text: string): bigint | undefined => {
  const fields = text.split('.', 5);
  if (fields.length !== 4) return undefined;
  let number = 0n;
  for (const field of fields) {
    if (!/^(?:0|[1-9]\d{0,2})$/.test(field) || Number(field) > 255) return undefined;
    number = number * 256n + BigInt(field);
  }
  return number;
};

/** The groups of 16 bits on one side of `::`; the last two may be written as IPv4. */
const groupsOf = (text: string, mayEndInIpv4: boolean): readonly bigint[] | undefined => {
  if (text === '') return [];
  const fields = text.split(':', 10);
  const groups: bigint[] = [];
  for (const [index, field] of fields.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(field)) groups.push(BigInt(`0x${field}`));
    else {
      const last = mayEndInIpv4 && index === fields.length - 1 ? parseIpv4(field) : undefined;
      if (last === undefined) return undefined;
      groups.push(last >> 16n, last & 0xffffn);
    }
  }
  return groups;
};

const GROUPS = 8;

const parseIpv6 = (text: string): bigint | undefined => {
  const gap = text.indexOf('::');
  const head = groupsOf(gap < 0 ? text : text.slice(0, gap), gap < 0);
  const tail = gap < 0 ? [] : groupsOf(text.slice(gap + 2), true);
  if (head === undefined || tail === undefined) return undefined;
  const missing = GROUPS - head.length - tail.length;
  // `::` stands for at least one group.
  if (gap < 0 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array<bigint>(missing).fill(0n), ...tail];
  return groups.reduce((number, group) => (number << 16n) | group, 0n);
};

/** An address as Go's `netip.ParseAddr` reads it; undefined when it is none. */
export const parseIp = (text: string): IpAddress | undefined => {
  const kind = /[.:%]/.exec(text)?.[0];
  if (kind === '.') {
    const number = parseIpv4(text);
    return number === undefined ? undefined : { bits: 32, number, zone: '' };
  }
  if (kind !== ':') return undefined;
  const percent = text.indexOf('%');
  const zone = percent < 0 ? '' : text.slice(percent + 1);
  if (percent >= 0 && zone === '') return undefined;
  const number = parseIpv6(percent < 0 ? text : text.slice(0, percent));
  return number === undefined ? undefined : { bits: 128, number, zone };
};

const ipv4Text = (number: bigint): string =>
  [24n, 16n, 8n, 0n].map((shift) => String((number >> shift) & 0xffn)).join('.');

/** The address as Go's `net.IP` prints it: `::` for the longest row of two or more zero groups (RFC 5952). */
export const ipText = (bits: 32 | 128, number: bigint): string => {
  if (bits === 32) return ipv4Text(number);
  const groups = Array.from({ length: GROUPS }, (_, index) => (number >> BigInt(112 - 16 * index)) & 0xffffn);
  let best = { start: -1, length: 1 };
  for (let start = 0; start < GROUPS; start += 1) {
    let end = start;
    while (end < GROUPS && groups[end] === 0n) end += 1;
    if (end - start > best.length) best = { start, length: end - start };
    start = Math.max(start, end);
  }
  const hex = (part: readonly bigint[]): string => part.map((group) => group.toString(16)).join(':');
  if (best.start < 0) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
};

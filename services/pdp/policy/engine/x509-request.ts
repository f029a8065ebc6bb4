import { readAlgorithm } from './public-key.ts';
import { BuiltinError } from './builtin.ts';
import { Der, type DerElement, malformed, rightAlign, Tag } from './der.ts';
import { integerOf, type Value } from './value.ts';
import { signatureAlgorithm } from './x509-algorithms.ts';
import { type Extension, readExtension, readKeyInfo } from './x509-certificate.ts';
import { readAlternativeNames } from './x509-general-names.ts';
import { readName, readStringOf, printTime, readTime } from './x509-names.ts';
import { alternativeNamesValue, base64, extensionsValue, nameValue, publicKeyValue, record } from './x509-value.ts';

const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';

/** What Go makes of a value whose type it is not told: null for what it does not know. */
const anyValue = ({ tag, content, whole }: DerElement): Value => {
  const der = new Der(whole);
  switch (tag) {
    case Tag.boolean:
      return der.boolean();
    case Tag.integer:
      return integerOf(der.int64());
    case Tag.octetString:
      return base64(content);
    case Tag.oid:
      return [...der.oid()];
    case Tag.bitString: {
      const { bytes, padding } = der.bitString();
      return record({ Bytes: base64(bytes), BitLength: bytes.length * 8 - padding });
    }
    case Tag.utcTime:
    case Tag.generalizedTime:
      return printTime(readTime(der));
    default:
      return readStringOf(tag, content) ?? null;
  }
};

interface Attribute {
  readonly type: readonly number[];
  /** The content of its set of values. */
  readonly values: Buffer;
}

/** Attributes that are malformed are skipped, as in Go. */
const readAttributes = (der: Der): readonly Attribute[] => {
  const attributes: Attribute[] = [];
  while (!der.empty) {
    const { whole } = der.element();
    try {
      const attribute = new Der(whole).enter(Tag.sequence);
      attributes.push({ type: attribute.oid(), values: attribute.read(Tag.set).content });
    } catch (cause) {
      if (!(cause instanceof BuiltinError)) throw cause;
    }
  }
  return attributes;
};

/** An attribute whose values are lists of types and values; `undefined` when they are something else. */
const attributeValue = ({ type, values }: Attribute): Value | undefined => {
  try {
    const lists: Value[] = [];
    for (const set = new Der(values); !set.empty;) {
      const items: Value[] = [];
      for (const list = set.enter(Tag.sequence); !list.empty;) {
        const item = list.enter(Tag.sequence);
        items.push(record({ Type: [...item.oid()], Value: anyValue(item.element()) }));
      }
      lists.push(items);
    }
    return record({ Type: [...type], Value: lists });
  } catch (cause) {
    if (cause instanceof BuiltinError) return undefined;
    throw cause;
  }
};

const readRequestedExtensions = (attributes: readonly Attribute[]): readonly Extension[] => {
  const extensions: Extension[] = [];
  for (const { type, values } of attributes) {
    if (type.join('.') !== EXTENSION_REQUEST || values.length === 0) continue;
    for (const list = new Der(values).enter(Tag.sequence); !list.empty;)
      extensions.push(readExtension(list.enter(Tag.sequence)));
  }
  const seen = new Set(extensions.map(({ id }) => id.join('.')));
  return seen.size === extensions.length ? extensions : malformed('request: the same extension twice');
};

/** A certificate request (RFC 2986) as Go's `encoding/json` writes its structure. Throws `BuiltinError`. */
export const requestValue = (bytes: Buffer): Value => {
  const whole = new Der(bytes);
  const outer = whole.enter(Tag.sequence);
  if (!whole.empty) return malformed('request: more data after it');
  const { whole: rawInfo, content } = outer.read(Tag.sequence);
  const info = new Der(content);
  const version = info.int64();
  const rawSubject = info.element().whole;
  const key = readKeyInfo(info.read(Tag.sequence).whole);
  const attributes = readAttributes(info.enter(Tag.constructed(0)));
  const algorithm = readAlgorithm(outer.enter(Tag.sequence));
  const signature = rightAlign(outer.bitString());
  const extensions = readRequestedExtensions(attributes);
  const names = extensions.findLast(({ id }) => id.join('.') === '2.5.29.17');
  const shown = attributes.map(attributeValue).filter((attribute) => attribute !== undefined);
  return record({
    Raw: base64(bytes),
    RawTBSCertificateRequest: base64(rawInfo),
    RawSubjectPublicKeyInfo: base64(key.rawKey),
    RawSubject: base64(rawSubject),
    Version: integerOf(version),
    Signature: base64(signature),
    SignatureAlgorithm: signatureAlgorithm(algorithm),
    PublicKeyAlgorithm: key.publicKeyAlgorithm,
    PublicKey: publicKeyValue(key.publicKey),
    Subject: nameValue(readName(rawSubject, anyValue)),
    Attributes: shown.length === 0 ? null : shown,
    Extensions: extensionsValue(extensions),
    ExtraExtensions: null,
    ...alternativeNamesValue(names === undefined ? undefined : readAlternativeNames(names.value)),
  });
};

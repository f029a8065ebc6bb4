import type { Builtins } from './builtin.ts';
import { awsBuiltins } from './aws.ts';
import { collectionBuiltins } from './collections.ts';
import { cryptoBuiltins } from './crypto.ts';
import { encodingBuiltins } from './encoding.ts';
import { graphqlBuiltins } from './graphql.ts';
import { jsonSchemaBuiltins } from './json-schema.ts';
import { jwtBuiltins } from './jwt.ts';
import { netBuiltins } from './net.ts';
import { numberBuiltins } from './numbers.ts';
import { regexBuiltins } from './regex.ts';
import { sprintfBuiltins } from './sprintf.ts';
import { stringBuiltins } from './strings.ts';
import { templateBuiltins } from './template.ts';
import { timeBuiltins } from './time.ts';
import { uriBuiltins } from './uri.ts';
import { x509Builtins } from './x509.ts';
import { yamlBuiltins } from './yaml.ts';

/** Every built-in that the host supplies to a policy module, by OPA's name. */
export const BUILTINS: Builtins = {
  ...awsBuiltins,
  ...collectionBuiltins,
  ...cryptoBuiltins,
  ...encodingBuiltins,
  ...graphqlBuiltins,
  ...jsonSchemaBuiltins,
  ...jwtBuiltins,
  ...netBuiltins,
  ...numberBuiltins,
  ...regexBuiltins,
  ...sprintfBuiltins,
  ...stringBuiltins,
  ...templateBuiltins,
  ...timeBuiltins,
  ...uriBuiltins,
  ...x509Builtins,
  ...yamlBuiltins,
};

/**
 * The built-ins that may give another value for the same arguments at another time; OPA 1.22.2 marks the same ones as
 * `nondeterministic`. A decision that called one is not repeated by its input alone.
 */
export const NONDETERMINISTIC_BUILTINS: ReadonlySet<string> = new Set([
  'http.send',
  'io.jwt.decode_verify',
  'io.jwt.encode_sign',
  'io.jwt.encode_sign_raw',
  'json.match_schema',
  'json.verify_schema',
  'net.lookup_ip_addr',
  'opa.runtime',
  'rand.intn',
  'time.now_ns',
  'uuid.rfc4122',
]);

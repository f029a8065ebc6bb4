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

import type { Value } from '../../../services/pdp/policy/engine/value.ts';
import type { Generators } from './generators.ts';
import type { Random } from './random.ts';
import { anyText, anyValue, jsonValue, number, object } from './values.ts';

const URLS = [
  'https://example.com/',
  'http://examplebucket.s3.amazonaws.com/a/b?x=1&y=2',
  'https://example.com:8443/p%20q?b=2&a=1',
  'https://s3.amazonaws.com/é',
  'https://EXAMPLE.com',
  '/only/path',
  '',
  'http://%zz',
];

const request = (random: Random): Value => {
  const made: Record<string, Value> = {
    method: random.pick(['get', 'GET', 'post', 'PUT', '']),
    url: random.pick(URLS),
  };
  if (random.chance(0.4))
    made['headers'] = object({
      'x-custom': random.chance(0.9) ? anyText(random) : anyValue(random, 1),
      ...(random.chance(0.4) ? { Accept: 'application/json', 'X-Amz-Date': 'yes' } : {}),
    });
  if (random.chance(0.35)) made['body'] = random.chance(0.9) ? jsonValue(random, 2) : anyValue(random, 2);
  if (random.chance(0.35)) made['raw_body'] = random.chance(0.9) ? anyText(random) : 1;
  if (random.chance(0.05)) delete made['method'];
  return object(made);
};

const config = (random: Random): Value => {
  const made: Record<string, Value> = {
    aws_access_key: 'MYAWSACCESSKEYGOESHERE',
    aws_secret_access_key: 'MYAWSSECRETACCESSKEYGOESHERE',
    aws_service: random.pick(['s3', 'ec2', 's3express', 'es', '']),
    aws_region: random.pick(['us-east-1', 'eu-west-1', '']),
  };
  if (random.chance(0.3)) made['aws_session_token'] = random.chance(0.8) ? anyText(random) : 1;
  if (random.chance(0.3)) made['disable_payload_signing'] = random.pick<Value>([true, false, 'true']);
  if (random.chance(0.15)) delete made[random.pick(Object.keys(made))];
  return object(made);
};

const MOMENTS: readonly Value[] = [
  '0',
  '1700000000000000000',
  '1700000000123456789',
  '9223372036854775807',
  '9223372036854775808',
  '-1',
  '1.5',
].map(number);

export const awsGenerators: Generators = {
  'providers.aws.sign_req': (random) => [request(random), config(random), random.pick(MOMENTS)],
};

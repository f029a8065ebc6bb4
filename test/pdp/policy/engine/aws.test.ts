import { awsBuiltins } from '../../../../services/pdp/policy/engine/aws.ts';
import { call, testCases } from './recorded-cases.ts';

/** AWS's own example of a signature ("Examples of the complete Signature Version 4 signing process"). */
const request = {
  method: 'GET',
  url: 'https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08',
  headers: { 'Content-Type': 'application/x-www-form-urlencoded; charset=utf-8' },
};
const config = {
  aws_service: 'iam',
  aws_region: 'us-east-1',
  aws_access_key: 'AKIDEXAMPLE',
  aws_secret_access_key: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
};

describe('signed requests to AWS', () => {
  testCases(awsBuiltins, './aws-cases.json');

  test('carry the signature of the example that AWS gives', () => {
    const at = BigInt(Date.UTC(2015, 7, 30, 12, 36)) * 1_000_000n;
    const args = [JSON.stringify(request), JSON.stringify(config), String(at)];
    const signed = JSON.parse(call(awsBuiltins, 'providers.aws.sign_req', ...args)!) as typeof request;
    expect(signed.headers).toMatchObject({
      Authorization: expect.stringContaining(
        'Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7',
      ) as string,
      'x-amz-date': '20150830T123600Z',
    });
  });
});

/**
 * Built-ins whose value is not given by their arguments: they draw, or look at the clock, also where an argument leaves
 * the time out. What a policy that can call one of them said once, it need not say again.
 */
export const NONDETERMINISTIC: ReadonlySet<string> = new Set([
  'crypto.x509.parse_and_verify_certificates',
  'crypto.x509.parse_and_verify_certificates_with_options',
  'http.send',
  'io.jwt.decode_verify',
  'io.jwt.encode_sign',
  'io.jwt.encode_sign_raw',
  'net.lookup_ip_addr',
  'opa.runtime',
  'rand.intn',
  'time.now_ns',
  'uuid.rfc4122',
]);

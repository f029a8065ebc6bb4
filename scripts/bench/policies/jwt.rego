# An RS256 signature verified in each evaluation, by the host.
package bench.jwt

default allow := false

allow if {
	[valid, _, claims] := io.jwt.decode_verify(input.token, {
		"cert": data.keys,
		"iss": "https://issuer.test",
		"aud": "bench",
	})
	valid
	input.action in claims.actions
}

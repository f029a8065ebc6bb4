# The same walk over a list with and without one call of a host built-in for each member.
package bench.calls

plain := count([text |
	some text in input.texts
	text != ""
])

called := count([text |
	some text in input.texts
	semver.is_valid(text)
])

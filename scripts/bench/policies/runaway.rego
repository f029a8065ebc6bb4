# Policies that would not end in time: one entrypoint for each kind of work.
package bench.runaway

loops := count([1 |
	some a in input.numbers
	some b in input.numbers
	some c in input.numbers
	(a + b) + c == -1
])

sets := count({[a, b, c] |
	some a in input.numbers
	some b in input.numbers
	some c in input.numbers
})

texts := count([1 |
	some a in input.numbers
	some b in input.numbers
	contains(concat("-", [input.text, input.text]), concat("", [format_int(a * b, 2), "x"]))
])

patterns := count([1 |
	some a in input.numbers
	some b in input.numbers
	regex.match(sprintf("^(%d|%d)+[a-z]{1,%d}$", [a, b, (a % 9) + 2]), input.text)
])

# What the host does for a built-in is outside of the fuel.
built_ins := count([1 |
	some a in input.numbers
	some b in input.numbers
	crypto.sha256(input.text) == sprintf("%d%d", [a, b])
])

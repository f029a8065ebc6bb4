# A set built from a large input.
package bench.comprehension

default allow := false

allow if input.user in _owners

_owners := {item.owner |
	some item in input.items
	item.size > 500
}

# A policy that does not end on any request but the self-check.
package edict

# METADATA
# entrypoint: true
decide := {
	"version": 1,
	"allow": endless,
	"reasons": [],
	"obligations": [],
	"advice": [],
	"legs": {},
}

default endless := false

endless if {
	input.subject.id != "self-check"
	some a in numbers.range(1, 3000)
	some b in numbers.range(1, 3000)
	a * b == -1
}

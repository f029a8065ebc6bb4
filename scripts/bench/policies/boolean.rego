# A small attribute policy with a boolean answer.
package bench.boolean

default allow := false

allow if {
	input.action == "read"
	input.subject.department == input.resource.department
	input.subject.clearance >= input.resource.sensitivity
}

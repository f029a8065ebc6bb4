# One call of a host built-in that formats.
package bench.sprintf

default message := "within the limit"

message := sprintf("%s may refund at most %d, not %d", [input.user, data.limit, input.amount]) if {
	input.amount > data.limit
}

# Every key of an input object is looked at once.
package bench.flood

default allow := false

allow if count([key | some key, _ in input.members; key == "x"]) == 0

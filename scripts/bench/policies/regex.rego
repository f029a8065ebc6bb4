package bench.regex

default allow := false

allow if regex.match(`^/users/[0-9]+/orders/[a-z0-9-]{8,36}$`, input.path)

package bench.glob

default allow := false

allow if glob.match("api:**:orders", [":"], input.path)

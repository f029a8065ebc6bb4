# METADATA
# title: Time window
# description: |
#   When each leg may act. A leg names a window of the directory; a window is always open (`always: true`) or has spans
#   in minutes of the local day at a fixed offset from UTC. The clock is `input.time.ns`; days count from Sunday = 0.
# schemas:
#   - input: schema.input
#   - data.directory: schema.directory
package mesh.time_window

import data.mesh.legs

# METADATA
# description: The legs that may act now.
permitted contains name if {
	known := data.directory.windows
	ns := input.time.ns
	some name, documents in legs.sources
	is_in_time(documents, known, ns)
}

# METADATA
# description: True when the documents name a window, and each that does names one of `known` that is open at `ns`.
is_in_time(documents, known, ns) if {
	windows := legs.values(documents, "window")
	count(windows) > 0
	every window in windows {
		is_string(window)
		is_open(known[window], ns)
	}
}

# METADATA
# description: The legs whose windows never close, so that an answer does not outlive them.
unbounded contains name if {
	some name in permitted
	every window in legs.values(legs.sources[name], "window") {
		data.directory.windows[window].always == true
	}
}

# METADATA
# description: One reason for each known leg outside its window.
deny contains reason if {
	able := permitted
	some name in legs.known
	not name in able
	reason := {
		"code": "outside_time_window",
		"leg": name,
		"rule": "MESH-TIME-1",
		"message": "This party may not act at this time.",
	}
}

# METADATA
# description: True when the window is open at `ns` nanoseconds after 1970-01-01T00:00:00Z.
is_open(window, _) if window.always == true

is_open(window, ns) if {
	not window.always
	is_number(ns)
	ns > 0
	is_number(window.offset_min)
	abs(window.offset_min) <= 14 * 60

	# 1970-01-01 was a Thursday, day 4 of a week that starts on Sunday.
	minutes := floor((ns / 60000000000) + window.offset_min)
	day := (floor(minutes / 1440) + 4) % 7
	some span in window.spans
	_within(span, day, minutes % 1440)
}

_within(span, day, minute) if {
	is_number(span.from_min)
	is_number(span.to_min)
	span.from_min >= 0
	span.to_min <= 1440
	day in span.days
	minute >= span.from_min
	minute < span.to_min
}

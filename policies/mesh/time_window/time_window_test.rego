package mesh.time_window_test

import data.mesh.fixture_test as fixture
import data.mesh.time_window

# Minutes after 2026-01-01T00:00Z, a Thursday.
at(minutes) := object.union(fixture.request, {"time": {"ns": 1767225600000000000 + (minutes * 60000000000)}})

test_every_leg_of_the_fixture_is_permitted if {
	time_window.permitted == {"subject", "agent", "chain/0"} with input as fixture.request
		with data.directory as fixture.directory
	time_window.unbounded == {"subject", "agent", "chain/0"} with input as fixture.request
		with data.directory as fixture.directory
	count(time_window.deny) == 0 with input as fixture.request with data.directory as fixture.directory
}

test_absent_window_denies if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.request
			with data.directory as fixture.without_attribute(leg, "window")
	}
}

test_null_negative_or_wrongly_typed_window_denies if {
	every leg, _ in fixture.entries {
		every value in fixture.wrong_values {
			denied_for(leg) with input as fixture.request
				with data.directory as fixture.with_attribute(leg, "window", value)
		}
	}
}

test_null_negative_or_wrongly_typed_verified_window_denies if {
	every leg, _ in fixture.entries {
		every value in fixture.wrong_values {
			denied_for(leg) with input as fixture.verified(leg, {"window": value})
				with data.directory as fixture.directory
		}
	}
}

test_a_bounded_window_opens_and_closes_to_the_minute if {
	directory := fixture.with_attribute("subject", "window", "office")

	# 08:00 to 18:00 at UTC+1 is 07:00 to 17:00 UTC.
	every minutes in [420, 1019, 720] {
		"subject" in time_window.permitted with input as at(minutes) with data.directory as directory
		not "subject" in time_window.unbounded with input as at(minutes) with data.directory as directory
	}
	every minutes in [419, 1020, 0, 1439] {
		denied_for("subject") with input as at(minutes) with data.directory as directory
	}
}

test_a_bounded_window_knows_the_day if {
	directory := fixture.with_attribute("subject", "window", "office")
	every days in [1, 2, 3, 4, 5, 6] {
		denied_for("subject") with input as at((days * 1440) + 720) with data.directory as directory
	}
	"subject" in time_window.permitted with input as at((7 * 1440) + 720) with data.directory as directory
}

test_an_offset_moves_the_day if {
	span := {"days": [5], "from_min": 0, "to_min": 60}

	# 23:30 UTC on Thursday is 00:30 on Friday at UTC+1, and 13:30 on Thursday at UTC-10.
	late := at(1410).time.ns
	time_window.is_open({"offset_min": 60, "spans": [span]}, late)
	not time_window.is_open({"offset_min": -600, "spans": [span]}, late)
}

test_a_window_with_a_wrong_member_never_opens if {
	span := {"days": [0, 1, 2, 3, 4, 5, 6], "from_min": 0, "to_min": 1440}
	time_window.is_open({"offset_min": 0, "spans": [span]}, fixture.noon)
	every offset in [null, true, "0", [], {}, 841, -841] {
		not time_window.is_open({"offset_min": offset, "spans": [span]}, fixture.noon)
	}
	every spans in [null, true, "0", [], {}, [null], [{}]] {
		not time_window.is_open({"offset_min": 0, "spans": spans}, fixture.noon)
	}
	every member in ["days", "from_min", "to_min"] {
		not time_window.is_open({"offset_min": 0, "spans": [object.remove(span, [member])]}, fixture.noon)
	}
	every member, value in {"days": [null, 4, "4", true], "from_min": [null, -1, "0"], "to_min": [null, 1441, "9"]} {
		every wrong in value {
			broken := object.union(span, {member: wrong})
			not time_window.is_open({"offset_min": 0, "spans": [broken]}, fixture.noon)
		}
	}
	not time_window.is_open({"spans": [span]}, fixture.noon)
	not time_window.is_open({"offset_min": 0}, fixture.noon)
	not time_window.is_open({}, fixture.noon)
}

test_only_the_value_true_is_always_open if {
	every value in [null, 1, "true", [], {}, false] {
		not time_window.is_open({"always": value}, fixture.noon)
	}
}

test_a_bounded_window_is_closed_without_a_time if {
	span := {"days": [0, 1, 2, 3, 4, 5, 6], "from_min": 0, "to_min": 1440}
	every ns in [null, -1, 0, "1767268800000000000", true, [], {}] {
		not time_window.is_open({"offset_min": 0, "spans": [span]}, ns)
	}
}

denied_for(leg) if {
	not leg in time_window.permitted
	some reason in time_window.deny
	reason.leg == leg
	reason.code == "outside_time_window"
	reason.rule == "MESH-TIME-1"
}

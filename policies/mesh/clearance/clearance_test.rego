package mesh.clearance_test

import data.mesh.clearance
import data.mesh.fixture_test as fixture

test_every_leg_of_the_fixture_is_permitted if {
	clearance.permitted == {"subject", "agent", "chain/0"} with input as fixture.request
		with data.directory as fixture.directory
	count(clearance.deny) == 0 with input as fixture.request with data.directory as fixture.directory
}

test_absent_clearance_denies if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.request
			with data.directory as fixture.without_attribute(leg, "clearance")
	}
}

test_null_negative_or_wrongly_typed_clearance_denies if {
	every leg, _ in fixture.entries {
		every value in fixture.wrong_values {
			denied_for(leg) with input as fixture.request
				with data.directory as fixture.with_attribute(leg, "clearance", value)
		}
	}
}

test_absent_null_negative_or_wrongly_typed_verified_clearance_denies if {
	every leg, _ in fixture.entries {
		every value in fixture.wrong_values {
			denied_for(leg) with input as fixture.verified(leg, {"clearance": value})
				with data.directory as fixture.directory
		}
	}
}

test_verified_properties_that_do_not_name_it_leave_the_directory_to_speak if {
	every leg, _ in fixture.entries {
		leg in clearance.permitted with input as fixture.verified(leg, {"email": "someone"})
			with data.directory as fixture.directory
	}
}

test_verified_clearance_fills_what_the_directory_leaves_open if {
	every leg, _ in fixture.entries {
		leg in clearance.permitted with input as fixture.verified(leg, {"clearance": fixture.party.clearance})
			with data.directory as fixture.without_attribute(leg, "clearance")
	}
}

test_a_higher_clearance_permits_and_a_lower_one_denies if {
	every leg, _ in fixture.entries {
		leg in clearance.permitted with input as fixture.request
			with data.directory as fixture.with_attribute(leg, "clearance", "restricted")
		denied_for(leg) with input as fixture.request
			with data.directory as fixture.with_attribute(leg, "clearance", "internal")
	}
}

test_an_unknown_leg_is_not_cleared if {
	request := object.union(fixture.request, {"agent": {"id": "stranger"}})
	not "agent" in clearance.permitted with input as request with data.directory as fixture.directory
}

test_nobody_is_cleared_for_a_resource_without_sensitivity if {
	directory := json.remove(fixture.directory, ["resources/dataset/hr.salaries/sensitivity"])
	count(clearance.permitted) == 0 with input as fixture.request with data.directory as directory
}

denied_for(leg) if {
	not leg in clearance.permitted
	some reason in clearance.deny
	reason.leg == leg
	reason.code == "clearance_too_low"
	reason.rule == "MESH-CLR-1"
}

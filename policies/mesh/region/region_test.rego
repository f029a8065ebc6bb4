package mesh.region_test

import data.mesh.fixture_test as fixture
import data.mesh.region

test_every_leg_of_the_fixture_is_permitted if {
	region.permitted == {"subject", "agent", "chain/0"} with input as fixture.request
		with data.directory as fixture.directory
	count(region.deny) == 0 with input as fixture.request with data.directory as fixture.directory
}

test_absent_region_denies if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.request
			with data.directory as fixture.without_attribute(leg, "region")
	}
}

test_null_negative_or_wrongly_typed_region_denies if {
	every leg, _ in fixture.entries {
		every value in fixture.wrong_values {
			denied_for(leg) with input as fixture.request
				with data.directory as fixture.with_attribute(leg, "region", value)
		}
	}
}

test_absent_null_negative_or_wrongly_typed_verified_region_denies if {
	every leg, _ in fixture.entries {
		every value in fixture.wrong_values {
			denied_for(leg) with input as fixture.verified(leg, {"region": value})
				with data.directory as fixture.directory
		}
	}
}

test_verified_properties_that_do_not_name_it_leave_the_directory_to_speak if {
	every leg, _ in fixture.entries {
		leg in region.permitted with input as fixture.verified(leg, {"email": "someone"})
			with data.directory as fixture.directory
	}
}

test_verified_region_fills_what_the_directory_leaves_open if {
	every leg, _ in fixture.entries {
		leg in region.permitted with input as fixture.verified(leg, {"region": fixture.party.region})
			with data.directory as fixture.without_attribute(leg, "region")
	}
}

test_a_leg_elsewhere_is_denied if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.request
			with data.directory as fixture.with_attribute(leg, "region", "us")
	}
}

test_every_list_of_regions_must_hold if {
	trusted := object.union(fixture.request, {
		"caller": {"properties": {"believe_unverified": true}},
		"resource": {"properties": {"regions": ["us"]}},
	})
	count(region.permitted) == 0 with input as trusted with data.directory as fixture.directory
}

test_nobody_is_permitted_where_the_resource_names_no_regions if {
	directory := json.remove(fixture.directory, ["resources/dataset/hr.salaries/regions"])
	count(region.permitted) == 0 with input as fixture.request with data.directory as directory
}

denied_for(leg) if {
	not leg in region.permitted
	some reason in region.deny
	reason.leg == leg
	reason.code == "region_not_permitted"
	reason.rule == "MESH-REG-1"
}

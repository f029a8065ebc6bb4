package mesh.resource_test

import data.mesh.fixture_test as fixture
import data.mesh.resource

trusted(properties) := object.union(fixture.request, {
	"caller": {"properties": {"believe_unverified": true}},
	"resource": {"properties": properties},
})

unknown(properties) := object.union(trusted(properties), {"resource": {"id": "hr.new"}})

complete := {"domain": "hr", "sensitivity": "internal", "regions": ["eu"]}

attributes := {
	"domain": "resource_domain_missing",
	"sensitivity": "resource_sensitivity_missing",
	"regions": "resource_regions_missing",
}

wrong_values := {
	"domain": [null, -1, 0, true, false, "", [], {}],
	"sensitivity": [null, -1, 0, true, false, "", "secret", [], {}],
	"regions": [null, -1, 0, true, false, "eu", {}],
}

test_the_catalogue_describes_the_fixture if {
	resource.described with input as fixture.request with data.directory as fixture.directory
	count(resource.deny) == 0 with input as fixture.request with data.directory as fixture.directory
	resource.sensitivity == 2 with input as fixture.request with data.directory as fixture.directory
}

test_an_unknown_resource_is_denied if {
	request := object.union(fixture.request, {"resource": {"id": "hr.new"}})
	denied("resource_unknown") with input as request with data.directory as fixture.directory
}

test_a_resource_of_another_type_is_unknown if {
	request := object.union(fixture.request, {"resource": {"type": "table"}})
	denied("resource_unknown") with input as request with data.directory as fixture.directory
}

test_an_entry_that_is_no_object_is_unknown if {
	every value in [null, false, -1, "hr", ["hr"]] {
		directory := object.union(fixture.directory, {"resources": {"dataset": {"hr.salaries": value}}})
		denied("resource_unknown") with input as fixture.request with data.directory as directory
	}
}

test_an_absent_attribute_denies if {
	every attribute, code in attributes {
		path := concat("/", ["resources/dataset/hr.salaries", attribute])
		denied(code) with input as fixture.request
			with data.directory as json.remove(fixture.directory, [path])
	}
}

test_a_null_negative_or_wrongly_typed_attribute_denies if {
	every attribute, code in attributes {
		every value in wrong_values[attribute] {
			broken := {"resources": {"dataset": {"hr.salaries": {attribute: value}}}}
			denied(code) with input as fixture.request
				with data.directory as object.union(fixture.directory, broken)
		}
	}
}

test_only_a_caller_with_believe_unverified_describes if {
	every value in [null, false, -1, 1, "true", [], {}] {
		caller := {"caller": {"id": "gateway", "properties": {"believe_unverified": value}}}
		request := object.union(object.remove(unknown(complete), ["caller"]), caller)
		denied("resource_unknown") with input as request with data.directory as fixture.directory
	}
}

test_a_trusted_caller_describes_an_unknown_resource_in_full if {
	resource.described with input as unknown(complete) with data.directory as fixture.directory
	resource.sensitivity == 1 with input as unknown(complete) with data.directory as fixture.directory
}

test_a_trusted_caller_that_leaves_something_out_is_not_enough if {
	every attribute, code in attributes {
		denied(code) with input as unknown(object.remove(complete, [attribute]))
			with data.directory as fixture.directory
		every value in wrong_values[attribute] {
			denied(code) with input as unknown(object.union(complete, {attribute: value}))
				with data.directory as fixture.directory
		}
	}
}

test_properties_that_are_no_object_describe_nothing if {
	every value in [null, -1, "hr", true, ["hr"]] {
		request := object.union(unknown({}), {"resource": {"properties": value}})
		denied("resource_unknown") with input as request with data.directory as fixture.directory
	}
}

test_the_stricter_sensitivity_wins if {
	resource.sensitivity == 2 with input as trusted({"sensitivity": "public"})
		with data.directory as fixture.directory
	resource.sensitivity == 3 with input as trusted({"sensitivity": "restricted"})
		with data.directory as fixture.directory
}

test_a_trusted_caller_adds_domains_and_region_lists if {
	resource.domains == ["hr", "sales"] with input as trusted({"domain": "sales"})
		with data.directory as fixture.directory
	resource.region_lists == [["eu"], ["us"]] with input as trusted({"regions": ["us"]})
		with data.directory as fixture.directory
}

test_a_trusted_caller_with_a_wrong_attribute_takes_the_description_away if {
	every attribute, code in attributes {
		every value in wrong_values[attribute] {
			denied(code) with input as trusted({attribute: value}) with data.directory as fixture.directory
		}
	}
}

denied(code) if {
	not resource.described
	some reason in resource.deny
	reason.code == code
}

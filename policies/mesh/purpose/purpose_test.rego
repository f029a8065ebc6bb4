package mesh.purpose_test

import data.mesh.fixture_test as fixture
import data.mesh.purpose

wrong_grants := [null, -1, true, "hr", [], ["hr"], {"hr": null}, {"hr": "read"}, {"hr": ["write"]}, {"hr": {"first": "read"}}, {"sales": ["read"]}]

test_the_purpose_of_the_fixture_permits if {
	every request in [fixture.request, fixture.tool_call] {
		purpose.permitted with input as request with data.directory as fixture.directory
		count(purpose.deny) == 0 with input as request with data.directory as fixture.directory
	}
}

test_an_absent_purpose_denies if {
	denied("purpose_missing") with input as json.remove(fixture.request, ["context/purpose"])
		with data.directory as fixture.directory
	denied("purpose_missing") with input as object.remove(fixture.request, ["context"])
		with data.directory as fixture.directory
}

test_a_null_negative_or_wrongly_typed_purpose_denies if {
	every value in [null, -1, 0, true, false, "", [], ["report"], {"report": true}] {
		denied("purpose_missing") with input as object.union(fixture.request, {"context": {"purpose": value}})
			with data.directory as fixture.directory
	}
}

test_a_purpose_that_the_directory_lacks_denies if {
	denied("purpose_not_permitted") with input as object.union(fixture.request, {"context": {"purpose": "fun"}})
		with data.directory as fixture.directory
}

test_a_purpose_for_other_actions_or_domains_denies if {
	every change in [{"action": {"name": "delete"}}, {"resource": {"type": "tool", "id": "mail.send"}}] {
		denied("purpose_not_permitted") with input as object.union(fixture.request, change)
			with data.directory as fixture.directory
	}
}

test_an_absent_member_of_the_purpose_denies if {
	every member in ["detail", "entitlements"] {
		denied("purpose_not_permitted") with input as fixture.request
			with data.directory as json.remove(fixture.directory, [concat("/", ["purposes/report", member])])
	}
	denied("purpose_not_permitted") with input as fixture.tool_call
		with data.directory as json.remove(fixture.directory, ["purposes/report/tools"])
}

test_a_null_negative_or_wrongly_typed_member_of_the_purpose_denies if {
	every value in wrong_grants {
		denied("purpose_not_permitted") with input as fixture.request with data.directory as changed("entitlements", value)
	}
	every value in [null, -1, true, "", "all", [], {}] {
		denied("purpose_not_permitted") with input as fixture.request with data.directory as changed("detail", value)
		denied("purpose_not_permitted") with input as fixture.tool_call with data.directory as changed("detail", value)
	}
	every value in [null, -1, true, "mail.send", [], {}, {"mail.send": true}, {"first": "mail.send"}, [null]] {
		denied("purpose_not_permitted") with input as fixture.tool_call with data.directory as changed("tools", value)
	}
}

test_an_entry_that_is_no_object_denies if {
	every value in [null, -1, true, "rows", []] {
		denied("purpose_not_permitted") with input as fixture.request
			with data.directory as object.union(fixture.directory, {"purposes": {"report": value}})
	}
}

# Set, not merged: a union would keep the entries of the old value.
changed(member, value) := object.union(
	json.remove(fixture.directory, [concat("/", ["purposes/report", member])]),
	{"purposes": {"report": {member: value}}},
)

denied(code) if {
	not purpose.permitted
	{reason.code | some reason in purpose.deny} == {code}
}

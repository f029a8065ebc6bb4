package mesh.entitlement_test

import data.mesh.entitlement
import data.mesh.fixture_test as fixture

codes := {"subject": "subject_not_entitled", "agent": "agent_not_entitled", "chain/0": "chain_not_entitled"}

rules := {"subject": "MESH-ENT-1", "agent": "MESH-ENT-2", "chain/0": "MESH-ENT-3"}

wrong_grants := [
	null, -1, 0, true, false, "hr", "read", [], ["hr"], {},
	{"hr": null}, {"hr": "read"}, {"hr": -1}, {"hr": []}, {"hr": ["write"]}, {"hr": {"read": true}}, {"hr": {"first": "read"}}, {"sales": ["read"]},
]

wrong_tools := [null, -1, 0, true, false, "mail.send", [], ["mail"], {}, {"mail.send": true}, {"first": "mail.send"}, [null], [["mail.send"]]]

test_every_leg_of_the_fixture_is_entitled if {
	every request in [fixture.request, fixture.tool_call] {
		entitlement.permitted == {"subject", "agent", "chain/0"} with input as request
			with data.directory as fixture.directory
		count(entitlement.deny) == 0 with input as request with data.directory as fixture.directory
	}
}

test_absent_entitlements_deny if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.request
			with data.directory as fixture.without_attribute(leg, "entitlements")
	}
}

test_null_negative_or_wrongly_typed_entitlements_deny if {
	every leg, path in fixture.entries {
		every value in wrong_grants {
			directory := replaced(path, object.union(object.remove(fixture.party, ["entitlements"]), {"entitlements": value}))
			denied_for(leg) with input as fixture.request with data.directory as directory
		}
	}
}

test_verified_entitlements_narrow if {
	every leg, _ in fixture.entries {
		every value in wrong_grants {
			denied_for(leg) with input as fixture.verified(leg, {"entitlements": value})
				with data.directory as fixture.directory
		}
	}
}

test_absent_tools_deny_a_tool_call if {
	every leg, _ in fixture.entries {
		denied_for(leg) with input as fixture.tool_call
			with data.directory as fixture.without_attribute(leg, "tools")
	}
}

test_null_negative_or_wrongly_typed_tools_deny if {
	every leg, _ in fixture.entries {
		every value in wrong_tools {
			denied_for(leg) with input as fixture.tool_call
				with data.directory as fixture.with_attribute(leg, "tools", value)
		}
	}
}

test_a_tool_is_called_by_its_name_or_by_call if {
	every name in ["call", "mail.send"] {
		request := object.union(fixture.tool_call, {"action": {"name": name}})
		"agent" in entitlement.permitted with input as request with data.directory as fixture.directory
	}
	every name in ["delete", "read", "mail.read"] {
		request := object.union(fixture.tool_call, {"action": {"name": name}})
		denied_for("agent") with input as request with data.directory as fixture.directory
	}
}

test_entitlements_do_not_call_tools if {
	directory := object.union(
		fixture.without_attribute("agent", "tools"),
		{"agents": {"agent": {"helper": {"entitlements": {"people": ["mail.send", "call"]}}}}},
	)
	denied_for("agent") with input as fixture.tool_call with data.directory as directory
}

test_every_domain_of_the_resource_counts if {
	trusted := object.union(fixture.request, {
		"caller": {"properties": {"believe_unverified": true}},
		"resource": {"properties": {"domain": "sales"}},
	})
	every leg, _ in fixture.entries {
		denied_for(leg) with input as trusted with data.directory as fixture.directory
	}
}

test_an_unknown_leg_is_not_entitled if {
	request := object.union(fixture.request, {"agent": {"id": "stranger"}})
	denied_for("agent") with input as request with data.directory as fixture.directory
	entitlement.permitted == {"subject", "chain/0"} with input as request with data.directory as fixture.directory
}

test_no_leg_grants_for_another if {
	every leg, _ in fixture.entries {
		others := {other | some other, _ in fixture.entries} - {leg}
		entitlement.permitted == others with input as fixture.request
			with data.directory as fixture.without_attribute(leg, "entitlements")
	}
}

replaced(path, party) := object.union(
	json.remove(fixture.directory, [concat("/", path)]),
	fixture.nested(path, party),
)

denied_for(leg) if {
	not leg in entitlement.permitted
	some reason in entitlement.deny
	reason.leg == leg
	reason.code == codes[leg]
	reason.rule == rules[leg]
}

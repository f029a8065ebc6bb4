const request = (agent: string, purpose: string, action: string): string =>
  JSON.stringify({
    subject: { type: 'user', id: 'alice', properties: { department: 'hr' } },
    agent: { type: 'agent', id: agent, chain: [{ type: 'agent', id: 'planner' }] },
    action: { name: action },
    resource: { type: 'dataset', id: 'hr.salaries', properties: { sensitivity: 'restricted' } },
    context: {
      purpose,
      session: 'session-4711',
      args: { table: 'salaries', columns: ['employee_id', 'grade', 'salary'], limit: 500 },
      arg_origin: { table: 'u', columns: 'm', limit: 'm' },
      supported_obligations: ['redact', 'rate_limit'],
    },
  });

/** One allow, one deny by the agent's leg, one deny by purpose: what a gateway sends, in turn. */
export const BODIES = [
  request('hr-assistant', 'headcount-report', 'read'),
  request('analytics-agent', 'headcount-report', 'read'),
  request('hr-assistant', 'quarterly-report', 'read'),
];

// What is watched: every rule in words, with how many alerts it has now.
import type { JSX } from 'preact';
import type { Alert, Rule } from '../../api/types';
import { conditionText, priorityRank } from '../../lib/alerts';
import { plural, sentence } from '../../lib/format';
import type { Resource } from '../../state/resource';
import { ColumnChooser } from '../../ui/columns';
import { EmptyState, Panel, Shown } from '../../ui/Panel';
import { Table, type Column } from '../../ui/Table';

const ORIGIN: Record<string, string> = { shipped: 'Shipped', file: 'File', api: 'API' };

function columns(active: readonly Alert[]): readonly Column<Rule>[] {
  const count = (rule: Rule): number => active.filter((alert) => alert.rule_id === rule.rule_id).length;
  return [
    {
      id: 'name',
      title: 'Rule',
      cell: (rule) => <span title={rule.description ?? undefined}>{rule.name}</span>,
      sort: (rule) => rule.name,
    },
    {
      id: 'condition',
      title: 'Fires when',
      cell: (rule) => (
        <span class="cut" title={conditionText(rule)}>
          {conditionText(rule)}
        </span>
      ),
      grow: true,
    },
    { id: 'priority', title: 'Priority', cell: (rule) => sentence(rule.priority), sort: (rule) => priorityRank(rule.priority) },
    { id: 'origin', title: 'From', cell: (rule) => ORIGIN[rule.origin] ?? rule.origin, sort: (rule) => rule.origin, optional: true },
    {
      id: 'enabled',
      title: 'Now',
      cell: (rule) =>
        !rule.enabled ? (
          <span class="dim">off</span>
        ) : count(rule) > 0 ? (
          <b>{plural(count(rule), 'alert')}</b>
        ) : (
          <span class="dim">quiet</span>
        ),
      sort: (rule) => (rule.enabled ? -count(rule) : 1),
    },
  ];
}

export function Rules({ rules, active }: { rules: Resource<Rule[]>; active: readonly Alert[] }): JSX.Element {
  const total = rules.data?.length ?? 0;
  return (
    <Panel
      title="Rules"
      name="rules"
      note={total > 0 ? plural(total, 'rule') : undefined}
      actions={total > 0 ? <ColumnChooser table="rules" columns={columns([])} /> : undefined}
    >
      <Shown resource={rules} what="The list of rules" height={160}>
        {(data) =>
          data.length > 0 ? (
            <Table
              id="rules"
              caption="Alert rules"
              columns={columns(active)}
              rows={data}
              rowKey={(rule) => rule.rule_id}
              rowClass={(rule) => (rule.enabled ? undefined : 'past')}
              sort={{ param: 'rules', initial: 'priority' }}
            />
          ) : (
            <EmptyState title="No rules">Put a rule file into rules.d, or send one to /api/v1/alerts/rules.</EmptyState>
          )
        }
      </Shown>
    </Panel>
  );
}
